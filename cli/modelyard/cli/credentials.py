"""Where the platform is and which key opens it: from `--data-dir`, the environment, or `./.modelyard`, in this order."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from modelyard.cli.errors import AccessDenied, ServerUnreachable

DEFAULT_DATA_DIR = Path(".modelyard")
FILE_NAME = "credentials.json"


@dataclass(frozen=True)
class Credentials:
    """What a client needs to talk to a platform."""

    api_url: str
    api_key: str


def find_credentials(data_dir: Path | None = None) -> Credentials:
    """Return the credentials to use. Raises `ServerUnreachable` when no platform is named, `AccessDenied` without a key."""
    if data_dir is not None:
        return _read_or_raise(data_dir)
    url, key = os.environ.get("MODELYARD_URL"), os.environ.get("MODELYARD_API_KEY")
    if url:
        if not key:
            raise AccessDenied(f"MODELYARD_URL is {url} but MODELYARD_API_KEY is not set: set it to a key of that platform")
        return Credentials(url.rstrip("/"), key)
    found = _read_or_raise(Path(os.environ.get("MODELYARD_DATA_DIR") or DEFAULT_DATA_DIR))
    return Credentials(found.api_url, key or found.api_key)


def read_credentials(data_dir: Path) -> Credentials | None:
    """The credentials `modelyard up` left in a data directory, or None."""
    try:
        document = json.loads((data_dir / FILE_NAME).read_text(encoding="utf-8"))
        return Credentials(document["api_url"], document["api_key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_credentials(data_dir: Path, credentials: Credentials) -> None:
    """Leave the credentials for the other commands on this machine, readable by the owner only."""
    write_private(data_dir / FILE_NAME, {"api_url": credentials.api_url, "api_key": credentials.api_key})


def write_private(path: Path, document: dict[str, object]) -> None:
    """Write JSON that only its owner may read, whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    # The mode is given at creation: a later chmod would leave a moment in which others can read it.
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _read_or_raise(data_dir: Path) -> Credentials:
    found = read_credentials(data_dir)
    if found is None:
        raise ServerUnreachable(
            f"There is no platform in {data_dir.resolve()}: start one with `modelyard up`, "
            "name its folder with --data-dir, or set MODELYARD_URL and MODELYARD_API_KEY"
        )
    return found

"""Decide what a platform on this machine consists of: programs, their commands, environments and checks."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.cli.platform.broker import find_valkey, write_config
from modelyard.cli.platform.child import Program
from modelyard.cli.platform.groups import CPU_SLOTS, WORKER_GROUPS
from modelyard.cli.platform.leftovers import MARK
from modelyard.cli.platform.readiness import answers_http, answers_ping, has_scheduler, is_worker_online
from modelyard.cli.platform.record import Record

if TYPE_CHECKING:
    from modelyard.kit.settings import Settings


@dataclass(frozen=True)
class Plan:
    """One platform: where it lives, its settings, and what it remembers."""

    data_dir: Path
    settings: "Settings"
    record: Record
    has_own_broker: bool

    @property
    def environment(self) -> dict[str, str]:
        """What every process of the platform sees."""
        settings, record = self.settings, self.record
        password = settings.flower_password.get_secret_value() if settings.flower_password else record.flower_password
        ours = {
            MARK: record.platform_id,
            "MODELYARD_DATA_DIR": str(self.data_dir),
            "MODELYARD_REDIS_URL": settings.redis_url.get_secret_value(),
            "MODELYARD_API_HOST": record.api_host,
            "MODELYARD_API_PORT": str(record.api_port),
            "MODELYARD_FLOWER_PORT": str(record.flower_port),
            "MODELYARD_FLOWER_USER": settings.flower_user,
            "MODELYARD_FLOWER_PASSWORD": password,
            "PYTHONUNBUFFERED": "1",
        }
        return {**os.environ, **ours}

    def broker(self) -> list[Program]:
        """The embedded Valkey, unless a broker was given."""
        if not self.has_own_broker:
            return []
        url = self.settings.redis_url.get_secret_value()
        config = write_config(self.data_dir / "valkey", self.record.broker_port, self.record.broker_password)
        command = (str(find_valkey()), str(config))
        return [Program("valkey", command, self.environment, lambda pid: answers_ping(url))]

    def api(self, listener: int) -> Program:
        """The API, on a socket we opened."""
        command = _modelyard("api", "--descriptor", str(listener))
        health = f"{self.record.api_url}/healthz"
        return Program("api", command, self.environment, lambda pid: answers_http(health), descriptors=(listener,))

    def scheduler(self) -> Program:
        """The scheduler."""
        url = self.settings.database
        return Program("scheduler", _modelyard("scheduler"), self.environment, lambda pid: has_scheduler(url, pid))

    def flower(self) -> Program:
        """Flower, on the loopback address only."""
        command = _modelyard("flower", "--port", str(self.record.flower_port))
        health = f"{self.record.flower_url}/healthcheck"
        return Program("flower", command, self.environment, lambda pid: answers_http(health))

    def workers(self, groups: Iterable[str], gpus: int, key: str) -> list[Program]:
        """One worker per group. All may lend every GPU: a lock per GPU, kept by the kernel, lets one at a time do so."""
        url, grace = self.record.api_url, self.settings.stop_grace_seconds
        lent = ("--gpus", f"0-{gpus - 1}") if gpus else ()
        programs = []
        for group in groups:
            stages = ",".join(WORKER_GROUPS[group])
            command = _modelyard("worker", "--name", group, "--stages", stages, "--slots", str(CPU_SLOTS), *lent)
            programs.append(
                Program(
                    group,
                    command,
                    self.environment,
                    lambda pid: is_worker_online(url, key, pid),
                    # Recipes get their grace to save, and the worker a moment to say so.
                    stop_seconds=grace + 15.0,
                )
            )
        return programs


def _modelyard(*arguments: str) -> tuple[str, ...]:
    # The module, not the script beside it: it works whether or not the environment's bin folder is on PATH.
    return (sys.executable, "-m", "modelyard.cli", *arguments)

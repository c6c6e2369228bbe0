"""What a platform remembers between starts: its ports, its passwords, and the processes it started."""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from modelyard.cli.credentials import write_private
from modelyard.cli.errors import Conflict

FILE_NAME = "platform.json"
LOCK_NAME = "up.lock"


@dataclass
class Record:
    """One platform on this machine. Kept in `platform.json`, readable by the owner only, because it holds passwords."""

    platform_id: str = field(default_factory=lambda: secrets.token_hex(8))
    """Put into the environment of every process of the platform, so that each can be found whoever its parent is."""
    api_host: str = "127.0.0.1"
    api_port: int = 0
    broker_port: int = 0
    broker_password: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    flower_port: int = 0
    flower_user: str = "modelyard"
    flower_password: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    processes: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Name -> pid and creation time (seconds since the epoch): a pid alone may by now be somebody else."""

    @property
    def api_url(self) -> str:
        """Where clients on this machine reach the API."""
        host = "127.0.0.1" if self.api_host in {"0.0.0.0", "::"} else self.api_host  # noqa: S104 - compared, not bound
        return f"http://{host}:{self.api_port}"

    @property
    def flower_url(self) -> str:
        """Where people on this machine watch the queues."""
        return f"http://127.0.0.1:{self.flower_port}"

    def save(self, data_dir: Path) -> None:
        """Write it, whole or not at all."""
        write_private(data_dir / FILE_NAME, asdict(self))


def read_record(data_dir: Path) -> Record | None:
    """What an earlier start left here, or None."""
    try:
        document = json.loads((data_dir / FILE_NAME).read_text(encoding="utf-8"))
        document["processes"] = {name: (pid, created) for name, (pid, created) in document["processes"].items()}
        return Record(**document)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def hold_platform(data_dir: Path) -> Iterator[None]:
    """Be the one supervisor of a data directory. Raises `Conflict` with the URL while another is at work.

    The kernel drops the lock when the holder dies, however it dies; the lock file's content is only for `down`.
    """
    open_folder(data_dir)
    descriptor = os.open(data_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        record = read_record(data_dir)
        place = f" at {record.api_url}" if record is not None and record.api_port else ""
        raise Conflict(
            f"A platform is already running in {data_dir}{place}: use it, stop it with "
            f"`modelyard down --data-dir {data_dir}`, or give this one another --data-dir"
        ) from None
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)


def open_folder(data_dir: Path) -> None:
    """Make the data directory if it is not there, for its owner only: it holds data, models and logs of people's work."""
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    data_dir.mkdir(mode=0o700, exist_ok=True)


def find_supervisor(data_dir: Path) -> int | None:
    """The pid that supervises a data directory at this moment, or None."""
    try:
        descriptor = os.open(data_dir / LOCK_NAME, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return int(os.read(descriptor, 32) or 0) or None
    finally:
        os.close(descriptor)

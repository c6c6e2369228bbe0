"""`modelyard down`: stop a platform from outside and leave no process."""

import os
import signal
from pathlib import Path

import psutil

from modelyard.cli.errors import NotFound
from modelyard.cli.platform.leftovers import end_processes
from modelyard.cli.platform.record import find_supervisor, read_record

MARGIN_SECONDS = 60.0
"""What stopping may take beyond the grace running jobs have."""


def stop_platform(data_dir: Path, grace_seconds: float) -> bool:
    """Stop the platform of a data directory; return whether there was anything to stop. Raises `NotFound`."""
    record = read_record(data_dir)
    if record is None:
        raise NotFound(f"There is no platform in {data_dir}: name the folder `modelyard up` was given with --data-dir")
    supervisor = find_supervisor(data_dir)
    if supervisor is not None:
        _stop_supervisor(supervisor, grace_seconds + MARGIN_SECONDS)
    # Re-read: what runs now may not have run when we came.
    record = read_record(data_dir) or record
    left = end_processes(record.platform_id, record.processes.values(), grace_seconds)
    return supervisor is not None or left > 0


def _stop_supervisor(pid: int, patience_seconds: float) -> None:
    try:
        process = psutil.Process(pid)
        os.kill(pid, signal.SIGTERM)
        process.wait(timeout=patience_seconds)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(timeout=10)

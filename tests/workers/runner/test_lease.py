"""A lease that cannot be renewed ends the attempt, also while the database hangs without refusing."""

import subprocess
import sys
import textwrap
from pathlib import Path

HANGING = """
import contextlib, threading, time
from modelyard.workers.runner.lease import Lease

class Hanging:
    @contextlib.contextmanager
    def write(self):
        threading.Event().wait()
        yield

class Broken:
    @contextlib.contextmanager
    def write(self):
        raise RuntimeError("read-only after a failover")
        yield

Lease({database}(), "job_1", 1, {seconds}, lambda: print("tree ended", flush=True)).start()
time.sleep(30)
"""


class TestGiveUp:
    """Run as a process: giving up is leaving."""

    def run(self, tmp_path: Path, database: str) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "lease.py"
        script.write_text(textwrap.dedent(HANGING.format(database=database, seconds=0.5)))
        return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=20)

    def test_a_database_that_hangs(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, "Hanging")
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "tree ended"), done.stderr

    def test_an_error_nobody_thought_of(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, "Broken")
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "tree ended"), done.stderr

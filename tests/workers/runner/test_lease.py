"""A lease that cannot be renewed ends the attempt, also while the database hangs or the runner is frozen."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

LEASE = """
import os, threading, time
from modelyard.domain.jobs.lifecycle import StaleAttempt
from modelyard.workers.runner.deadline import boot_time
from modelyard.workers.runner.lease import Lease

def hang():
    threading.Event().wait()

def fail():
    raise RuntimeError("read-only after a failover")

def be_stale():
    raise StaleAttempt("job_1", 1)

def succeed():
    os.write(1, b"renewed\\n")  # at once: two threads share this pipe

lease = Lease({renewal}, {seconds}, lambda: os.write(1, b"tree ended\\n"))
lease.start({claimed_at})
"""


def start(tmp_path: Path, renewal: str, then: str, seconds: float = 0.5, claimed_at: str = "None") -> "subprocess.Popen[str]":
    """A process with a lease: giving up is leaving."""
    script = tmp_path / "lease.py"
    script.write_text(LEASE.format(renewal=renewal, seconds=seconds, claimed_at=claimed_at) + then)
    return subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class TestGiveUp:
    @pytest.mark.parametrize("renewal", ["hang", "fail", "be_stale"])
    def test_what_cannot_be_renewed_ends_its_tree_and_leaves(self, tmp_path: Path, renewal: str) -> None:
        out, errors = start(tmp_path, renewal, "time.sleep(30)").communicate(timeout=20)
        assert out.splitlines()[-1] == "tree ended", errors


class TestTold:
    """A lease that knows when its job was claimed counts from there."""

    def test_one_that_has_run_out_ends_the_process_at_once(self, tmp_path: Path) -> None:
        told = "time.sleep(30)"
        with start(tmp_path, "succeed", told, claimed_at="boot_time() - 10", seconds=10.0) as process:
            assert process.wait(timeout=20) == -signal.SIGKILL

    def test_need_not_renew_before_it_is_held(self, tmp_path: Path) -> None:
        then = "lease.wait_until_held()\nos.write(1, b'held\\n')\ntime.sleep(30)"
        with start(tmp_path, "hang", then, claimed_at="boot_time()", seconds=2.0) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            assert process.wait(timeout=20) == 0, "and ends all the same if nothing is renewed"


class TestFrozen:
    """Stopped by SIGSTOP, no thread can act; the kernel does."""

    def test_is_dead_at_the_deadline(self, tmp_path: Path) -> None:
        with start(tmp_path, "succeed", "time.sleep(60)", seconds=2.0) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "renewed\n"
            process.send_signal(signal.SIGSTOP)
            assert process.wait(timeout=20) == -signal.SIGKILL

    def test_is_not_while_it_renews_nor_after_its_release(self, tmp_path: Path) -> None:
        then = "while input() != 'release': pass\nlease.release()\nos.write(1, b'released\\n')\nprint(input())"
        script = tmp_path / "lease.py"
        script.write_text(LEASE.format(renewal="succeed", seconds=1.0, claimed_at=None) + then)
        command = [sys.executable, str(script)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for _ in range(8):  # eight renewals take two leases
                assert process.stdout.readline() == "renewed\n"
            process.stdin.write("release\n")
            process.stdin.flush()
            assert "released\n" in iter(process.stdout.readline, "")
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=1.5)  # longer than a lease without a renewal
            assert process.communicate("lives\n", timeout=20)[0].endswith("lives\n")

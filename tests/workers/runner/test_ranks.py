"""Waiting for ranks costs nothing while they work, and ends with the first of them."""

import os
import subprocess
import sys
import time

import pytest

from modelyard.workers.runner.forking import ForkedProcess
from modelyard.workers.runner.ranks import Ranks, wait_for_change

LONG_SECONDS = 60.0


def start(seconds: float) -> "subprocess.Popen[bytes]":
    """A process that ends by itself."""
    return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"])


class TestWaitForChange:
    def test_ends_with_the_first_rank(self) -> None:
        ranks = Ranks([start(LONG_SECONDS), start(0.1)])
        before = time.monotonic()
        wait_for_change(ranks, LONG_SECONDS)
        assert ranks.exit_codes() == [None, 0]
        assert time.monotonic() - before < LONG_SECONDS / 2
        ranks.kill()
        assert ranks.exit_codes() == [-9, 0]
        wait_for_change(ranks, LONG_SECONDS)  # nobody left to wait for

    def test_ends_after_a_while(self) -> None:
        ranks = Ranks([start(LONG_SECONDS)])
        wait_for_change(ranks, 0.05)
        assert ranks.exit_codes() == [None]
        ranks.kill()


class TestForkedProcess:
    @pytest.mark.parametrize("code", [0, 75])
    def test_exit_code(self, code: int) -> None:
        pid = os.posix_spawn(sys.executable, [sys.executable, "-c", f"raise SystemExit({code})"], os.environ)
        process = ForkedProcess(pid)
        assert process.wait() == code
        assert process.poll() == code

    def test_reaped_by_somebody_else_counts_as_killed(self) -> None:
        pid = os.posix_spawn(sys.executable, [sys.executable, "-c", "pass"], os.environ)
        os.waitpid(pid, 0)
        process = ForkedProcess(pid)
        assert process.poll() == -9
        assert process.wait() == -9

"""The kernel ends a process at its deadline, in whatever state it is; its children have deadlines of their own."""

import os
import signal
import sys

import pytest

from modelyard.workers.runner import deadline
from modelyard.workers.runner.deadline import KernelDeadline, NoKernelDeadline, boot_time

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="timer_create with SIGKILL is Linux's")


def fork_with(action: str) -> int:
    """Start a process that arms its deadline and then waits; return its process id."""
    code = f"""
import os, signal
from modelyard.workers.runner.deadline import KernelDeadline, boot_time
{action}
signal.pause()
"""
    return os.posix_spawn(sys.executable, [sys.executable, "-c", code], dict(os.environ))


def signal_that_ended(pid: int) -> int:
    """Wait for a process; return the signal it died of, 0 for none."""
    _, status = os.waitpid(pid, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


class TestMove:
    @pytest.mark.parametrize("state", ["", "os.kill(os.getpid(), signal.SIGSTOP)"])
    def test_running_or_stopped_it_is_killed(self, state: str) -> None:
        pid = fork_with(f"KernelDeadline().move(boot_time() + 0.2)\n{state}")
        assert signal_that_ended(pid) == signal.SIGKILL

    def test_a_moment_that_has_passed_is_now(self) -> None:
        assert signal_that_ended(fork_with("KernelDeadline().move(0.0)")) == signal.SIGKILL

    def test_a_child_does_not_inherit_it(self) -> None:
        forks = """
KernelDeadline().move(boot_time() + 0.2)
if os.fork() == 0:
    while os.getppid() == parent:
        os.sched_yield()
    os.write(1, b"orphan lives")
    os._exit(0)
"""
        reader, writer = os.pipe()
        os.set_inheritable(writer, True)
        pid = fork_with(f"parent = os.getpid()\nos.dup2({writer}, 1)\n{forks}")
        os.close(writer)
        assert signal_that_ended(pid) == signal.SIGKILL
        assert os.read(reader, 100) == b"orphan lives"
        os.close(reader)


class TestDisarm:
    def test_lets_it_live(self) -> None:
        pid = fork_with("kept = KernelDeadline()\nkept.move(boot_time() + 0.2)\nkept.disarm()\nsignal.alarm(1)")
        assert signal_that_ended(pid) == signal.SIGALRM


class TestElsewhere:
    def test_says_what_it_needs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(deadline.sys, "platform", "darwin")
        with pytest.raises(NoKernelDeadline, match=r"platform is darwin.*run workers on Linux"):
            KernelDeadline()

    def test_the_clock_goes_on(self) -> None:
        assert boot_time() < boot_time()

"""Keeping programs running: readiness, restarts, the order of stopping, and what happens when the supervisor is killed."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from modelyard.cli.platform.child import Program, choose_delay
from modelyard.cli.platform.leftovers import MARK, end_processes, find_processes
from modelyard.cli.platform.signals import Signals
from modelyard.cli.platform.supervisor import StartFailed, Supervisor
from tests.cli.conftest import clean_environment

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open({ready!r}, 'w').close(); time.sleep(600)"
POLITE = "import time; open({ready!r}, 'w').close(); time.sleep(600)"


class Yard:
    """A supervisor over small programs, and what it told us."""

    def __init__(self, folder: Path, signals: Signals) -> None:
        self.folder = folder
        self.pids: dict[str, tuple[int, float]] = {}
        self.supervisor = Supervisor(folder / "logs", signals, self._remember)

    def _remember(self, processes: dict[str, tuple[int, float]]) -> None:
        self.pids = processes

    def program(self, name: str, code: str, stop_seconds: float = 10.0, mark: str = "none") -> Program:
        ready = self.folder / f"{name}.ready"
        command = (sys.executable, "-c", code.format(ready=str(ready)))
        return Program(name, command, {**clean_environment(), MARK: mark}, lambda pid: ready.exists(), stop_seconds)

    def keep_running_until(self, condition: Callable[[], bool], signals: Signals) -> None:
        while not condition():
            signals.wait(min(self.supervisor.keep_running(), 1.0))


@pytest.fixture
def signals() -> Iterator[Signals]:
    with Signals() as signals:
        yield signals


@pytest.fixture
def yard(tmp_path: Path, signals: Signals) -> Iterator[Yard]:
    yard = Yard(tmp_path, signals)
    yield yard
    yard.supervisor.stop(list(yard.supervisor.children))


class TestStart:
    def test_waits_until_all_are_ready(self, yard: Yard) -> None:
        yard.supervisor.start([yard.program("a", POLITE), yard.program("b", POLITE)])
        yard.supervisor.wait_ready(60)
        assert all(psutil.pid_exists(pid) for pid, _ in yard.pids.values())
        assert set(yard.pids) == {"a", "b"}

    def test_says_why_a_program_does_not_come_up(self, yard: Yard) -> None:
        yard.supervisor.start([yard.program("broken", "raise SystemExit('no database here')")])
        with pytest.raises(StartFailed, match=r"(?s)broken died 3 times.*no database here"):
            yard.supervisor.wait_ready(60)

    def test_gives_up_on_a_program_that_never_answers(self, yard: Yard) -> None:
        yard.supervisor.start([yard.program("deaf", "import time; time.sleep(600)")])
        with pytest.raises(StartFailed, match="deaf is not ready after 1 s"):
            yard.supervisor.wait_ready(1)


class TestRestart:
    def test_a_killed_child_comes_back(self, yard: Yard, signals: Signals) -> None:
        yard.supervisor.start([yard.program("a", POLITE)])
        yard.supervisor.wait_ready(60)
        first, _ = yard.pids["a"]
        os.kill(first, signal.SIGKILL)
        yard.keep_running_until(lambda: yard.pids["a"][0] != first, signals)
        assert psutil.pid_exists(yard.pids["a"][0])

    @pytest.mark.parametrize(("failures", "seconds"), [(1, 0.5), (2, 1), (3, 2), (7, 30), (100, 30)])
    def test_waits_longer_each_time(self, failures: int, seconds: float) -> None:
        assert choose_delay(failures) == seconds


class TestStop:
    def test_kills_what_does_not_listen(self, yard: Yard) -> None:
        yard.supervisor.start([yard.program("stubborn", STUBBORN, stop_seconds=0.5)])
        yard.supervisor.wait_ready(60)
        pid, _ = yard.pids["stubborn"]
        yard.supervisor.stop(["stubborn"])
        assert not psutil.pid_exists(pid)

    def test_the_second_request_does_not_wait(self, yard: Yard, signals: Signals) -> None:
        yard.supervisor.start([yard.program("stubborn", STUBBORN, stop_seconds=600)])
        yard.supervisor.wait_ready(60)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        yard.supervisor.stop(["stubborn"])
        assert signals.stop_requests == 2


class TestLeftovers:
    def test_finds_the_children_of_children(self, yard: Yard, tmp_path: Path) -> None:
        grandchild = f"""
            import subprocess, sys
            child = subprocess.Popen([sys.executable, '-c', {STUBBORN.format(ready=str(tmp_path / "orphan.ready"))!r}])
            child.wait()
        """
        program = yard.program("parent", textwrap.dedent(grandchild), mark="platform-7")
        ready = Program(program.name, program.command, program.environment, lambda pid: (tmp_path / "orphan.ready").exists())
        yard.supervisor.start([ready])
        yard.supervisor.wait_ready(60)
        os.kill(yard.pids["parent"][0], signal.SIGKILL)
        assert end_processes("platform-7", [], grace_seconds=0.5) >= 1
        assert find_processes("platform-7") == []

    def test_a_pid_that_is_somebody_else_by_now_is_left_alone(self) -> None:
        me = psutil.Process(os.getppid())
        assert find_processes("no-such-platform", [(me.pid, me.create_time() - 100)]) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
class TestKilledSupervisor:
    def test_takes_its_children_along(self, tmp_path: Path) -> None:
        code = f"""
            import json, sys, time
            from pathlib import Path
            from modelyard.cli.platform.child import Child, Program
            command = (sys.executable, "-c", {POLITE.format(ready=str(tmp_path / "child.ready"))!r})
            program = Program("child", command, {clean_environment()!r}, lambda pid: True)
            child = Child(program, Path({str(tmp_path / "child.log")!r}))
            child.start()
            print(json.dumps(child.identity), flush=True)
            time.sleep(600)
        """
        with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as supervisor:
            assert supervisor.stdout is not None
            pid, _ = json.loads(supervisor.stdout.readline())
            child = psutil.Process(pid)
            supervisor.kill()
            supervisor.wait()
            child.wait(timeout=30)
        assert not child.is_running()

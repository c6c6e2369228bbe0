"""Processes of attempts that are over go, with all they started; those of owners, and of other platforms, stay."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from factories import Factory, write

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.repository import Lease
from modelyard.domain.jobs.tables import Job
from modelyard.kit.settings import Settings
from modelyard.workers.engine.processes import ATTEMPT_TAG, tag_of
from modelyard.workers.engine.reaper import Reaper, Sighting, find_strays

WAITS = "import sys; print('here', flush=True); sys.stdin.read()"
# A loader whose parent has gone: nobody waits for it, and it goes on.
ORPHAN = """
import os
if os.fork() == 0:
    os.setsid()
    print(os.getpid(), flush=True)
    while True:
        os.sched_yield() if os.getppid() == parent else __import__('signal').pause()
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that belong to an attempt below a data directory."""
    started: list[subprocess.Popen[str]] = []

    def start_one(tag: str, data_dir: Path, program: str = WAITS) -> "subprocess.Popen[str]":
        environment = {**os.environ, ATTEMPT_TAG: tag, "MODELYARD_DATA_DIR": str(data_dir.resolve())}
        command = [sys.executable, "-c", program]
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.said = process.stdout.readline()  # type: ignore[attr-defined]
        started.append(process)
        return process

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def reaper(factory: Factory, settings: Settings) -> Reaper:
    return Reaper(settings, factory.database)


class TestFindStrays:
    @pytest.mark.parametrize(
        ("lease", "is_stray"),
        [
            (Lease(2, 100.0), False),
            (Lease(2, 93.0), False),  # over, but within the grace
            (Lease(2, 92.0), True),
            (Lease(2, None), True),  # the job has ended, or waits again
            (Lease(3, 130.0), True),
            (Lease(1, 130.0), True),
            (None, True),
        ],
    )
    def test_table(self, lease: Lease | None, is_stray: bool) -> None:
        sighting = Sighting({"job_1": lease} if lease else {}, now=100.0)
        assert find_strays(["job_1:2"], sighting, 7.5) == ({"job_1:2"} if is_stray else set())
        assert find_strays(["job_1:2:1"], sighting, 7.5) == ({"job_1:2:1"} if is_stray else set()), "a gang's other nodes too"


class TestLook:
    def test_those_of_the_owner_stay_until_the_attempt_is_over(
        self, factory: Factory, reaper: Reaper, settings: Settings, start: Start
    ) -> None:
        job = factory.running()
        process = start(tag_of(job.id, 1), settings.data_dir)
        for _ in range(3):
            reaper.look()
        assert process.poll() is None

        write(factory.database, finish, job.id, 1, Outcome.RUNNER_LOST)
        reaper.look()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)  # a runner that has reported may be tidying up
        reaper.look()
        assert process.wait(timeout=10) == -9

    def test_a_lease_that_is_long_over(self, factory: Factory, reaper: Reaper, settings: Settings, start: Start) -> None:
        job = factory.running()
        process = start(tag_of(job.id, 1), settings.data_dir)
        factory.update(job, lease_expires_at=factory.database.now() - settings.lease_seconds)
        assert factory.get(Job, job.id).state == "running", "the scheduler has not looked yet"
        reaper.look(is_sure=True)
        assert process.wait(timeout=10) == -9

    def test_grandchildren_whose_parent_has_gone(self, reaper: Reaper, settings: Settings, start: Start) -> None:
        parent = start("job_gone:1", settings.data_dir, "parent = __import__('os').getpid()" + ORPHAN)
        orphan = psutil.Process(int(parent.said))  # type: ignore[attr-defined]
        parent.wait(timeout=10)
        assert orphan.is_running()
        reaper.look(is_sure=True)
        deadline = time.monotonic() + 10
        while orphan.is_running() and orphan.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            os.sched_yield()

    def test_another_platform_on_this_machine_is_left_alone(
        self, factory: Factory, reaper: Reaper, settings: Settings, tmp_path: Path, start: Start
    ) -> None:
        job = factory.running()
        theirs = start(tag_of(job.id, 7), tmp_path / "theirs")
        ours = start(tag_of(job.id, 7), settings.data_dir)
        reaper.look(is_sure=True)
        assert ours.wait(timeout=10) == -9
        assert theirs.poll() is None


class TestRun:
    def test_one_of_several_workers_is_in_charge(self, factory: Factory, settings: Settings) -> None:
        first, second = Reaper(settings, factory.database), Reaper(settings, factory.database)
        assert [first._is_in_charge(), second._is_in_charge(), first._is_in_charge()] == [True, False, True]

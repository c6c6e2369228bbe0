"""Jobs of a real worker, forked from its warm parents and started as programs; the parents may die at any time."""

import psutil
import pytest

from modelyard.workers.runner.main import ALIVE_FILE
from tests.engine.conftest import CORPUS, TINY, Yard, kill, wait_for

PARENT = "modelyard.workers.engine.warm_parent"


def parents_of(worker: int) -> list[psutil.Process]:
    """The warm parents of a worker."""
    return [child for child in psutil.Process(worker).children() if PARENT in " ".join(child.cmdline())]


def count_ready(yard: Yard, name: str) -> int:
    """How often a worker has said that a parent is ready."""
    return (yard.folder / "logs" / f"{name}.log").read_text().count("warm parent ready")


class TestWarmStart:
    @pytest.mark.slow
    def test_worker_and_parents_are_killed_and_the_job_goes_on(self, yard: Yard) -> None:
        yard.environment["MODELYARD_WARM_PARENTS"] = "always"
        worker = yard.start_worker("both", "prepare,pretrain")
        wait_for(lambda: count_ready(yard, "both") == 2, "both parents to be ready")
        yard.wait_for_state(yard.submit(CORPUS), "succeeded")

        kill(*parents_of(worker.pid))
        yard.wait_for_state(yard.submit(CORPUS), "succeeded")  # by a program, or by a new parent: whichever was first
        wait_for(lambda: count_ready(yard, "both") == 4, "new parents")

        job_id = yard.submit({**TINY, "steps": 400, "save_every": 200})
        rank = wait_for(lambda: yard.processes_of(job_id, "recipes"), "the rank")[0]
        assert rank.parent() in yard.processes_of(job_id, "runner")
        assert f"{rank.parent().parent().pid}" in [str(parent.pid) for parent in parents_of(worker.pid)]
        assert (yard.folder / "runs" / job_id / "1" / ALIVE_FILE).exists()
        wait_for(lambda: yard.rows(job_id, "metrics"), "a step")
        parents = parents_of(worker.pid)
        kill(worker)
        for parent in parents:
            parent.wait(timeout=30)  # they die with their worker; the job does not
        yard.wait_for_state(job_id, "succeeded")
        assert [attempt["outcome"] for attempt in yard.rows(job_id, "attempts")] == ["succeeded"]

    def test_without_parents(self, yard: Yard) -> None:
        yard.environment["MODELYARD_WARM_PARENTS"] = "never"
        worker = yard.start_worker("data", "prepare")
        yard.wait_for_state(yard.submit(CORPUS), "succeeded")
        assert parents_of(worker.pid) == []

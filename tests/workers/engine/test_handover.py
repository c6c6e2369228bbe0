"""What a worker may tell a forked runner, and when the runner goes by it."""

from pathlib import Path
from typing import Any

import pytest
from factories import Factory
from sqlalchemy import update
from sqlmodel import col

from modelyard.domain.jobs.tables import Job
from modelyard.kit.settings import Settings
from modelyard.kit.slots import SlotPool
from modelyard.workers.engine.attempts import Engine
from modelyard.workers.engine.capacity import Capacity
from modelyard.workers.engine.handover import Handover, is_simple
from modelyard.workers.engine.nursery import Nursery
from modelyard.workers.runner.deadline import boot_time

SIMPLE: dict[str, Any] = {
    "id": "job_1",
    "kind": "prepare",
    "attempt": 1,
    "nodes": 1,
    "inputs": {"data": {"type": "dataset", "id": "x"}},
}


class TestIsSimple:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({}, True),
            ({"kind": "pretrain"}, True),
            ({"attempt": 2}, False),
            ({"retry_of": "job_0"}, False),
            ({"nodes": 2}, False),
            ({"kind": "deploy"}, False),
            ({"inputs": {"deployment": {"type": "deployment", "id": "x"}}}, False),
        ],
    )
    def test_only_what_has_nothing_to_find_out(self, changes: dict[str, Any], expected: bool) -> None:
        assert is_simple(Job(**{**SIMPLE, **changes})) is expected


class TestIsFresh:
    @pytest.mark.parametrize(("age_seconds", "expected"), [(0.0, True), (7.0, True), (8.0, False), (60.0, False)])
    def test_a_quarter_of_a_lease(self, age_seconds: float, expected: bool) -> None:
        assert Handover(Job(**SIMPLE), {}, boot_time() - age_seconds).is_fresh(30.0) is expected


class TestClaim:
    """Both databases: the claim knows the job as the runner would read it."""

    def claim(self, factory: Factory, job: Job, folder: Path) -> tuple[Job, Handover | None] | None:
        settings = Settings(_env_file=None, data_dir=folder, warm_parents="never")
        pool = SlotPool(folder / "slots", "data", cpu_slots=1)
        nursery = Nursery(settings, ["prepare"], has_gpus=False)
        engine = Engine(settings, factory.database, Capacity(pool), "data@host", nursery=nursery)
        held = pool.take(1, "cpu")
        assert held is not None
        try:
            return engine._claim(job.queue, held)
        finally:
            held.release()

    def test_a_first_attempt_is_handed_over_as_the_database_has_it(self, factory: Factory, tmp_path: Path) -> None:
        job, before = factory.job("prepare"), boot_time()
        claimed = self.claim(factory, job, tmp_path)
        assert claimed is not None
        handover = claimed[1]
        assert handover is not None
        assert before <= handover.claimed_at <= boot_time()
        told = Handover.from_document(handover.to_document())
        assert told.job.model_dump() == factory.get(Job, job.id).model_dump()
        assert told.job.attempt == 1

    def test_an_input_that_is_gone_is_left_to_the_runner_to_report(self, factory: Factory, tmp_path: Path) -> None:
        job = factory.job("prepare")
        with factory.database.write() as session:
            gone = {"data": {"type": "dataset", "id": "ds_gone", "name": "x", "version": 1}}
            session.execute(update(Job).where(col(Job.id) == job.id).values(inputs=gone))
        claimed = self.claim(factory, job, tmp_path)
        assert claimed is not None
        assert claimed[1] is None

"""A stale attempt can write nothing, whatever it still has in hand."""

from collections.abc import Callable
from typing import Any

import pytest
from factories import LEASE_SECONDS, Factory, write
from sqlmodel import Session, select

from modelyard.domain.jobs.lifecycle import Outcome, StaleAttempt
from modelyard.domain.jobs.ownership import finish, own, renew
from modelyard.domain.jobs.recording import Batch, add_checkpoint, record
from modelyard.domain.jobs.repository import list_attempts, list_with_dead_lease
from modelyard.domain.jobs.tables import Attempt, Checkpoint, Job, JobEvent, LogChunk

MANIFEST = {"sha256": "a" * 64, "bytes": 3 * 2**31}
WRITES: dict[str, Callable[[Session, str, int], Any]] = {
    "renew": lambda session, job, n: renew(session, job, n, LEASE_SECONDS),
    "own": lambda session, job, n: own(session, job, n, progress=0.5),
    "record": lambda session, job, n: record(session, job, n, Batch(logs=[(0, "late")]), 0.0),
    "checkpoint": lambda session, job, n: add_checkpoint(session, job, n, 5, "key", MANIFEST, {}, 0.0),
    "finish": lambda session, job, n: finish(session, job, n, Outcome.SUCCEEDED),
}


@pytest.mark.parametrize("name", WRITES)
class TestStaleAttempt:
    def test_writes_nothing_after_another_attempt_began(self, factory: Factory, name: str) -> None:
        job = factory.running()
        write(factory.database, finish, job.id, 1, Outcome.NODE_LOST)
        factory.claimed(job)
        self.check_refused(factory, name, job, 1)

    def test_writes_nothing_after_its_own_end(self, factory: Factory, name: str) -> None:
        job = factory.running()
        write(factory.database, finish, job.id, 1, Outcome.SUCCEEDED)
        self.check_refused(factory, name, job, 1)

    def test_writes_nothing_before_it_began(self, factory: Factory, name: str) -> None:
        self.check_refused(factory, name, factory.running(), 2)

    @staticmethod
    def check_refused(factory: Factory, name: str, job: Job, attempt: int) -> None:
        before = _everything(factory, job)
        with pytest.raises(StaleAttempt, match=f"Attempt {attempt} no longer owns job {job.id}"):
            write(factory.database, WRITES[name], job.id, attempt)
        assert _everything(factory, job) == before


def _everything(factory: Factory, job: Job) -> list[dict[str, Any]]:
    tables: list[Any] = [Attempt, Checkpoint, JobEvent, LogChunk]
    rows = [row for table in tables for row in factory.find(select(table).where(table.job_id == job.id).order_by(table.id))]
    return [row.model_dump() for row in [factory.get(Job, job.id), *rows]]


class TestOwner:
    @pytest.mark.parametrize("name", WRITES)
    def test_may_write(self, factory: Factory, name: str) -> None:
        write(factory.database, WRITES[name], factory.running().id, 1)

    def test_renewing_prolongs_the_lease(self, factory: Factory) -> None:
        job = factory.running()
        factory.update(job, lease_expires_at=1.0)
        with factory.database.read() as session:
            assert [dead.id for dead in list_with_dead_lease(session, 7.5)] == [job.id]
        assert write(factory.database, renew, job.id, 1, LEASE_SECONDS).stop_requested is None
        assert factory.get(Job, job.id).lease_expires_at > factory.database.now() + LEASE_SECONDS - 10
        assert factory.find(select(Attempt))[0].heartbeat_at is not None
        with factory.database.read() as session:
            assert list_with_dead_lease(session, 7.5) == []


class TestFinish:
    def test_success_closes_job_and_attempt(self, factory: Factory) -> None:
        job = factory.running()
        write(factory.database, finish, job.id, 1, Outcome.SUCCEEDED, figures={"loss": 1.5})
        now, attempt = factory.get(Job, job.id), factory.find(select(Attempt))[0]
        assert (now.state, now.reason, now.progress, now.figures) == ("succeeded", None, 1.0, {"loss": 1.5})
        assert now.lease_expires_at is None
        assert now.worker_id is None
        assert now.finished_at >= now.started_at >= now.submitted_at
        assert (attempt.outcome, attempt.finished_at is not None) == ("succeeded", True)

    def test_a_retry_waits_its_time_and_keeps_its_place(self, factory: Factory) -> None:
        job = factory.running(max_attempts=3)
        write(factory.database, finish, job.id, 1, Outcome.USER_CODE, "broken", 1)
        write(factory.database, finish, factory.claimed(job).id, 2, Outcome.USER_CODE, "broken", 1)
        now = factory.get(Job, job.id)
        assert (now.state, now.reason, now.message, now.order_key) == ("queued", "user_code", "broken", job.order_key)
        assert 0 < now.not_before - factory.database.now() <= 2
        factory.update(job, not_before=0)
        write(factory.database, finish, factory.claimed(job).id, 3, Outcome.USER_CODE, "broken", 1)
        assert factory.get(Job, job.id).state == "failed"
        with factory.database.read() as session:
            assert [(past.seq, past.outcome, past.exit_code) for past in list_attempts(session, job.id)] == [
                (number, "user_code", 1) for number in (1, 2, 3)
            ]

    def test_a_checkpoint_of_many_gigabytes(self, factory: Factory) -> None:
        job = factory.running()
        write(factory.database, WRITES["checkpoint"], job.id, 1)
        assert factory.find(select(Checkpoint))[0].bytes == 3 * 2**31

"""A time limit counts the running time of all attempts, by the database's clock."""

import pytest
from factories import Factory, write
from sqlmodel import select

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.recording import add_checkpoint
from modelyard.domain.jobs.tables import Attempt, Job
from modelyard.workers.runner.time_limit import describe_time_limit, find_time_left


def after_two_attempts(factory: Factory, limit: float | None) -> Job:
    """A job whose first attempt ran for 60 s, and whose second began 5 s ago."""
    job = factory.job()
    factory.update(job, time_limit_seconds=limit)
    first = factory.claimed(job)
    write(factory.database, add_checkpoint, job.id, 1, 25, "key", {"sha256": "a" * 64, "bytes": 1}, {}, 1.0)
    write(factory.database, finish, first.id, 1, Outcome.DRAINED)
    factory.claimed(job)
    now = factory.database.now()
    with factory.database.write() as session:
        one, two = session.exec(select(Attempt).order_by(Attempt.seq)).all()  # type: ignore[arg-type]
        one.started_at, one.finished_at, two.started_at = now - 1000, now - 940, now - 5
    return factory.get(Job, job.id)  # type: ignore[no-any-return]


class TestFindTimeLeft:
    @pytest.mark.parametrize(("limit", "left"), [(100.0, 35.0), (60.0, -5.0), (None, None)])
    def test_less_what_all_attempts_used(self, factory: Factory, limit: float | None, left: float | None) -> None:
        job = after_two_attempts(factory, limit)
        with factory.database.read() as session:
            found = find_time_left(session, job)
        assert found is left if left is None else found == pytest.approx(left, abs=3.0)

    def test_says_what_is_left_of_the_work(self, factory: Factory) -> None:
        job = after_two_attempts(factory, 60.0)
        with factory.database.read() as session:
            said = describe_time_limit(session, job)
        assert said == "Reached its time limit of 60 s over 2 attempts; the checkpoint of step 25 is kept"

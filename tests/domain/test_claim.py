"""Who gets which job: never two the same, and always the best one that waits."""

import threading

import pytest
from factories import LEASE_SECONDS, Factory, write
from sqlmodel import select
from waiting_processes import run_at_once

from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.ownership import change, claim
from modelyard.domain.jobs.submission import PRIORITY_SECONDS
from modelyard.domain.jobs.tables import Attempt, Job
from modelyard.kit.database import Database

CLAIMERS, JOBS = 3, 40
# Claims until nothing is left, and prints what it got.
CLAIMER = """
import sys
from modelyard.domain import tables
from modelyard.domain.jobs.ownership import claim
from modelyard.kit.database import Database
database = Database(sys.argv[1])
print("ready", flush=True)
input()
while True:
    with database.write() as session:
        job = claim(session, sys.argv[2], sys.argv[3], ["cpu-0"], 30.0)
    if job is None:
        break
    print(job.id, flush=True)
"""


def take(database: Database, queue: str, worker: str = "train@host") -> Job | None:
    """Claim the best job of a queue."""
    job: Job | None = write(database, claim, queue, worker, ["cpu-0"], LEASE_SECONDS)
    return job


class TestClaim:
    def test_opens_an_attempt_with_a_lease(self, factory: Factory) -> None:
        job = factory.job()
        claimed = take(factory.database, job.queue)
        assert claimed is not None
        assert (claimed.id, claimed.state, claimed.attempt, claimed.worker_id) == (job.id, "running", 1, "train@host")
        assert claimed.lease_expires_at is not None
        assert 0 < claimed.lease_expires_at - factory.database.now() <= LEASE_SECONDS
        attempt = factory.find(select(Attempt).where(Attempt.job_id == job.id))[0]
        assert (attempt.seq, attempt.slots, attempt.outcome) == (1, ["cpu-0"], None)

    def test_nothing_waits(self, factory: Factory) -> None:
        assert take(factory.database, "finetune") is None
        factory.running()
        assert take(factory.database, "prepare") is None

    def test_only_its_own_queue(self, factory: Factory) -> None:
        factory.registered()
        wide = factory.job("pretrain", slots=2)
        assert take(factory.database, factory.job().queue) is not None
        assert take(factory.database, "prepare") is None
        claimed = take(factory.database, wide.queue)
        assert claimed is not None
        assert claimed.id == wide.id

    def test_threads_never_get_the_same_job(self, factory: Factory) -> None:
        jobs = [factory.job() for _ in range(JOBS)]
        got: list[str] = []

        def claim_all() -> None:
            while (job := take(factory.database, jobs[0].queue)) is not None:
                got.append(job.id)

        threads = [threading.Thread(target=claim_all) for _ in range(CLAIMERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert sorted(got) == sorted(job.id for job in jobs)

    def test_processes_never_get_the_same_job(self, factory: Factory, database_url: str) -> None:
        jobs = [factory.job() for _ in range(JOBS)]
        ended = run_at_once(CLAIMER, [[database_url, jobs[0].queue, f"worker-{n}"] for n in range(CLAIMERS)])
        got = [line for each in ended for line in each.said.split()]
        assert sorted(got) == sorted(job.id for job in jobs)


class TestOrder:
    def test_first_come_first_served(self, factory: Factory) -> None:
        jobs = [factory.job() for _ in range(3)]
        assert self.drain(factory, jobs) == [job.id for job in jobs]

    def test_priority_goes_first(self, factory: Factory) -> None:
        low, normal, high = factory.job(priority=0), factory.job(), factory.job(priority=100)
        assert self.drain(factory, [low]) == [high.id, normal.id, low.id]

    @pytest.mark.parametrize(("waited", "first"), [(-1, "important"), (1, "patient")])
    def test_waiting_counts_like_priority(self, factory: Factory, waited: float, first: str) -> None:
        patient = factory.job(priority=50, name="patient")
        important = factory.job(priority=60, name="important")
        factory.update(patient, order_key=important.order_key + 10 * PRIORITY_SECONDS - 10 * PRIORITY_SECONDS - waited)
        claimed = take(factory.database, patient.queue)
        assert claimed is not None
        assert claimed.name == first

    def test_the_key_is_submission_less_priority(self, factory: Factory) -> None:
        job = factory.job(priority=70)
        assert job.order_key == pytest.approx(job.submitted_at - 70 * 60)

    def test_not_before(self, factory: Factory) -> None:
        job = factory.job()
        factory.update(job, not_before=factory.database.now() + 60)
        assert take(factory.database, job.queue) is None
        factory.update(job, not_before=factory.database.now() - 0.001)
        assert take(factory.database, job.queue) is not None

    @staticmethod
    def drain(factory: Factory, jobs: list[Job]) -> list[str]:
        got = []
        while (job := take(factory.database, jobs[0].queue)) is not None:
            got.append(job.id)
        return got


class TestSkip:
    def test_a_job_being_cancelled_is_left_alone(self, factory: Factory) -> None:
        first, second = factory.job(), factory.job()
        if factory.database.engine.dialect.name == "sqlite":
            pytest.skip("SQLite has one writer at a time: nobody claims while another transaction writes")
        with factory.database.write() as session:
            row = session.get(Job, first.id)
            assert row is not None
            change(session, row, JobState.CANCELLED)
            claimed = take(factory.database, first.queue)  # does not wait for the lock
            assert claimed is not None
            assert claimed.id == second.id
        assert take(factory.database, first.queue) is None

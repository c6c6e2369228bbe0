"""The numbers of jobs that are kept are the numbers there are, whatever happened to the jobs."""

import random
from collections import Counter

import pytest
from factories import Factory, request_of, write
from sqlalchemy import func
from sqlmodel import Session, col, select
from waiting_processes import run_at_once

from modelyard.domain.jobs.lifecycle import ACTIVE, LEGAL_MOVES, JobState, Outcome
from modelyard.domain.jobs.ownership import change, finish
from modelyard.domain.jobs.submission import Submission, submit_many
from modelyard.domain.jobs.tables import Job, JobTally
from modelyard.domain.jobs.tallies import (
    add_up,
    count_by_queue,
    count_by_state,
    count_claimable,
    has_open_jobs,
    needs_adding_up,
    sum_up,
)
from modelyard.scheduler.tallies import add_up_tallies

# Moves its jobs along and back while others add up, and adds up itself.
MOVER = """
import sys
from modelyard.domain import tables
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.ownership import change
from modelyard.domain.jobs.tables import Job
from modelyard.domain.jobs.tallies import add_up
from modelyard.kit.database import Database
database = Database(sys.argv[1])
print("ready", flush=True)
input()
for turn in range(8):
    for job_id in sys.argv[2:]:
        with database.write() as session:
            job = session.get(Job, job_id)
            change(session, job, JobState.RUNNING if turn % 2 == 0 else JobState.QUEUED)
    with database.write() as session:
        add_up(session)
"""


def kept(factory: Factory) -> Counter[tuple[str, str, str, int]]:
    """(project, queue, state) and the slots of one job -> number of jobs, by the tally."""
    rows = factory.find(select(JobTally))
    sums = sum_up((row.project_id, row.queue, row.state, row.jobs, row.slots) for row in rows)
    return Counter({(row["project_id"], row["queue"], row["state"], row["slots"]): row["jobs"] for row in sums})


def counted(factory: Factory) -> Counter[tuple[str, str, str, int]]:
    """The same by counting."""
    keys = (Job.project_id, Job.queue, Job.state)
    query = select(*keys, func.sum(col(Job.slots) * col(Job.nodes)), func.count()).group_by(*keys)
    return Counter({(project, queue, state, int(slots)): number for project, queue, state, slots, number in factory.find(query)})


def move(session: Session, job_id: str, state: JobState) -> None:
    """Move a job by its id."""
    change(session, session.get_one(Job, job_id), state)


def move_and_break(session: Session, job_id: str) -> None:
    """Move a job, then fail before the transaction ends."""
    move(session, job_id, JobState.CANCELLED)
    raise BrokenPipeError


class TestTally:
    @pytest.mark.parametrize("seed", range(2))
    def test_random_moves(self, factory: Factory, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - no secret
        factory.registered()
        jobs = [factory.job("pretrain", slots=chance.choice([1, 2, 8]), project="default") for _ in range(6)]
        jobs += [factory.job(project="theirs") for _ in range(3)]
        for _ in range(40):
            job = factory.get(Job, chance.choice(jobs).id)
            moves = sorted(LEGAL_MOVES[JobState(job.state)])
            if moves:
                write(factory.database, move, job.id, chance.choice(moves))
            if chance.random() < 0.2:
                write(factory.database, add_up)
            assert kept(factory) == counted(factory)

    def test_many_at_once_make_one_row(self, factory: Factory) -> None:
        requests = [Submission(factory.project_id, request_of()) for _ in range(20)]
        write(factory.database, submit_many, [requests])
        (row,) = factory.find(select(JobTally))
        assert (row.queue, row.state, row.jobs, row.slots) == ("prepare", "queued", 20, 20)

    def test_a_move_that_is_undone_leaves_no_trace(self, factory: Factory) -> None:
        job = factory.job()
        with pytest.raises(BrokenPipeError):
            write(factory.database, move_and_break, job.id)
        assert kept(factory) == counted(factory)

    def test_processes_that_move_and_add_up(self, factory: Factory, database_url: str) -> None:
        jobs = [factory.job() for _ in range(12)]
        ended = run_at_once(MOVER, [[database_url, *(job.id for job in jobs[n::2])] for n in range(2)])
        assert [each.code for each in ended] == [0, 0], ended
        assert kept(factory) == counted(factory) == Counter({(factory.project_id, "prepare", "queued", 12): 12})


class TestAddUp:
    def test_one_row_for_each_key_and_none_for_nothing(self, factory: Factory) -> None:
        for _ in range(4):
            factory.running()
        waiting = factory.job()
        assert len(factory.find(select(JobTally))) == 13
        add_up_tallies(factory.database)
        rows = factory.find(select(JobTally))
        assert sorted((row.state, row.jobs) for row in rows) == [("queued", 1), ("running", 4)]
        write(factory.database, move, waiting.id, JobState.CANCELLED)
        add_up_tallies(factory.database)
        assert sorted((row.state, row.jobs) for row in factory.find(select(JobTally))) == [("cancelled", 1), ("running", 4)]

    def test_nothing_to_add_writes_nothing(self, factory: Factory) -> None:
        factory.job()
        before = [row.id for row in factory.find(select(JobTally))]
        add_up_tallies(factory.database)
        assert [row.id for row in factory.find(select(JobTally))] == before
        with factory.database.read() as session:
            assert not needs_adding_up(session)


class TestHasOpenJobs:
    def test_as_long_as_one_is_not_finished(self, factory: Factory) -> None:
        def has_any() -> bool:
            with factory.database.read() as session:
                return has_open_jobs(session)

        assert not has_any()
        job = factory.job()
        assert has_any()
        factory.claimed(job)
        assert has_any()
        with factory.database.write() as session:
            finish(session, job.id, 1, Outcome.SUCCEEDED)
        assert not has_any()


class TestCount:
    def test_what_waits_and_runs(self, factory: Factory) -> None:
        factory.running()
        factory.job()
        backing_off, over = factory.job(), factory.job(project="theirs")
        factory.update(backing_off, not_before=factory.database.now() + 60)
        write(factory.database, move, over.id, JobState.CANCELLED)
        with factory.database.read() as session:
            assert count_claimable(session) == {"prepare": 1}
            assert count_by_queue(session) == {"prepare": {"queued": 2, "running": 1}}
            assert count_by_state(session, factory.project_id) == {"queued": 2, "running": 1}
            assert count_by_state(session, factory.project("theirs")) == {"cancelled": 1}
            assert not ACTIVE & set(count_by_state(session, factory.project("theirs")))

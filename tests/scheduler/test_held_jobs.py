"""One look at all held jobs: it writes only what changes, and costs little however long the chains are."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from factories import Factory, request_of, write
from sqlalchemy import event
from sqlmodel import select

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.stopping import cancel
from modelyard.domain.jobs.tables import Job
from modelyard.domain.pipelines.repository import list_held
from modelyard.domain.pipelines.service import StepRequest, create_pipeline
from modelyard.domain.pipelines.tables import Pipeline
from modelyard.kit.database import Database
from modelyard.scheduler.pipelines import advance_held_jobs, advance_one, settle_pipelines

STEPS, PIPELINES = 200, 3
MOST_SECONDS = 0.3
"""Of our own processor time, so that a busy machine does not count."""


def make_chain(factory: Factory, length: int) -> list[Job]:
    """A pipeline in which every step waits for the one before it; its jobs in order."""
    steps = {f"s{n}": StepRequest(request_of("import"), [f"s{n - 1}"] if n else []) for n in range(length)}
    pipeline = write(factory.database, create_pipeline, factory.project_id, "chain", steps)
    return factory.find(select(Job).where(Job.pipeline_id == pipeline.id).order_by(Job.id))


def states(factory: Factory, jobs: list[Job]) -> list[str]:
    """The states of jobs now."""
    return [factory.get(Job, job.id).state for job in jobs]


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """Every statement sent meanwhile."""
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield seen
    event.remove(database.engine, "before_cursor_execute", note)


class TestLook:
    def test_long_chains_cost_little_and_write_nothing(self, factory: Factory) -> None:
        for _ in range(PIPELINES):
            make_chain(factory, STEPS)
        advance_held_jobs(factory.database)
        took = []
        with statements(factory.database) as seen:
            for _ in range(3):
                started = time.process_time()
                advance_held_jobs(factory.database)
                settle_pipelines(factory.database)
                took.append(time.process_time() - started)
        assert min(took) < MOST_SECONDS, took
        assert len(seen) < 30
        assert not [each for each in seen if "UPDATE" in each or "INSERT" in each or "IMMEDIATE" in each]

    def test_a_failure_reaches_the_end_of_a_chain_in_one_look(self, factory: Factory) -> None:
        jobs = make_chain(factory, 5)
        write(factory.database, finish, factory.claimed(jobs[0]).id, 1, Outcome.BAD_DATA, "line 3 is broken")
        advance_held_jobs(factory.database)
        assert states(factory, jobs) == ["failed"] * 5
        settle_pipelines(factory.database)
        assert factory.get(Pipeline, jobs[0].pipeline_id).state == "failed"

    def test_only_the_next_step_goes_on(self, factory: Factory) -> None:
        jobs = make_chain(factory, 3)
        write(factory.database, finish, factory.claimed(jobs[0]).id, 1, Outcome.SUCCEEDED)
        advance_held_jobs(factory.database)
        settle_pipelines(factory.database)
        assert states(factory, jobs) == ["succeeded", "queued", "held"]
        assert factory.get(Job, jobs[2].id).message == f"Waits for s1 ({jobs[1].id}, queued)"
        assert factory.get(Pipeline, jobs[0].pipeline_id).state == "running"

    def test_one_that_cannot_be_judged_holds_up_no_other(self, factory: Factory) -> None:
        broken, fine = make_chain(factory, 2), make_chain(factory, 2)
        factory.update(broken[1], spec={"kind": "of another version"})
        for first in (broken[0], fine[0]):
            write(factory.database, finish, factory.claimed(first).id, 1, Outcome.SUCCEEDED)
        advance_held_jobs(factory.database)
        assert states(factory, [broken[1], fine[1]]) == ["held", "queued"]


class TestStaleRows:
    @pytest.mark.parametrize("now", ["cancelled", "held"])
    def test_what_changed_since_it_was_read_wins(self, factory: Factory, now: str) -> None:
        jobs = make_chain(factory, 2)
        first = factory.claimed(jobs[0])
        factory.update(first, state="succeeded")
        with factory.database.read() as session:
            (held,) = list_held(session)
        factory.update(first, state="running")
        if now == "cancelled":
            with factory.database.write() as session:
                waiting = session.get(Job, jobs[1].id)
                assert waiting is not None
                cancel(session, waiting)
        advance_one(factory.database, held)
        assert states(factory, jobs) == ["running", now]

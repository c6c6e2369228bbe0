"""A model of jobs, moved step by step beside the real functions on a real database: whatever the order, they must agree."""

import itertools
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from factories import LEASE_SECONDS, Factory, write
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlmodel import Session, select

from modelyard.domain.errors import Conflict
from modelyard.domain.invariants.checks import check_job
from modelyard.domain.invariants.repository import compare_tallies, list_jobs
from modelyard.domain.jobs.lifecycle import FINISHED, JobState, Outcome, StaleAttempt
from modelyard.domain.jobs.ownership import claim, finish, own, renew
from modelyard.domain.jobs.recording import Batch, add_checkpoint, record
from modelyard.domain.jobs.retry import HANDED_OVER, NEVER_RETRIED, NO_FAILURE, TROUBLE
from modelyard.domain.jobs.stopping import cancel, pause, resume
from modelyard.domain.jobs.tables import Attempt, Checkpoint, Job, JobEvent, LogChunk, MetricPoint
from modelyard.domain.specs import KINDS
from modelyard.kit.database import Database, read_clock
from modelyard.scheduler.repair import end_dead_lease

GRACE_SECONDS = 7.5
MANIFEST = {"sha256": "a" * 64, "bytes": 3}
WORKERS = ("first@host", "second@host", "third@elsewhere")
OUTCOMES = [*Outcome, *[Outcome.USER_CODE] * 8, *[Outcome.PAUSED] * 4]
"""The commonest failure more often, so that budgets are used up; and pauses, so that jobs are resumed."""
METRIC = {"type": "metric", "at": 1.0, "step": 3, "values": {"loss": 2.0}}
STALE_WRITES: dict[str, Callable[[Session, str, int], Any]] = {
    "renew": lambda session, job, n: renew(session, job, n, LEASE_SECONDS),
    "own": lambda session, job, n: own(session, job, n, progress=0.5),
    "record": lambda session, job, n: record(session, job, n, Batch([METRIC], 9, [(0, "late")]), 0.0),
    "checkpoint": lambda session, job, n: add_checkpoint(session, job, n, 5, "key", MANIFEST, {}, 0.0),
    "finish": lambda session, job, n: finish(session, job, n, Outcome.SUCCEEDED),
}


@dataclass
class Expected:
    """What the model knows of a job."""

    kind: str
    max_attempts: int
    state: JobState = JobState.QUEUED
    attempt: int = 0
    stop: str | None = None
    history: list[Outcome] = field(default_factory=list)

    @property
    def own_failures(self) -> int:
        """Failures that use the user's budget."""
        return sum(outcome not in NO_FAILURE for outcome in self.history)


class OwnershipMachine(RuleBasedStateMachine):
    """Submits, claims, loses, stops and finishes jobs in any order, and checks that only the owner ever wrote."""

    migrated: ClassVar[Path]
    """A migrated SQLite file to copy; set by the test."""

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="model-"))
        shutil.copy(self.migrated, self.folder / "test.db")
        self.database = Database(f"sqlite:///{self.folder / 'test.db'}")
        self.factory = Factory(self.database)
        self.factory.registered("dataset", "corpus")
        self.jobs: dict[str, Expected] = {}
        self.finished: dict[str, dict[str, Any]] = {}
        for kind, max_attempts in (("import", 2), ("pretrain", 3)):
            self.submit(kind, max_attempts, 50)

    # --- what users do ---

    @rule(kind=st.sampled_from(["import", "pretrain"]), max_attempts=st.integers(1, 3), priority=st.integers(0, 100))
    def submit(self, kind: str, max_attempts: int, priority: int) -> None:
        job = self.factory.job(kind, max_attempts=max_attempts, priority=priority)
        self.jobs[job.id] = Expected(kind, max_attempts)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), action=st.sampled_from([cancel, pause, resume]))
    def ask(self, data: st.DataObject, action: Callable[[Session, Job], None]) -> None:
        job_id = self.pick(data)
        after = self.asked(self.jobs[job_id], action)
        before = self.rows(job_id)
        try:
            with self.database.write() as session:
                job = session.get(Job, job_id)
                assert job is not None
                action(session, job)
        except Conflict:
            assert after is None, f"{action.__name__} was refused in {self.jobs[job_id]}"
            assert self.rows(job_id) == before
            return
        assert after is not None, f"{action.__name__} was accepted in {self.jobs[job_id]}"
        self.jobs[job_id].state, self.jobs[job_id].stop = after

    def asked(self, job: Expected, action: Any) -> tuple[JobState, str | None] | None:
        """State and wish to stop after a request; None where it must be refused."""
        if action is cancel:
            if job.state in FINISHED:
                return None
            return (JobState.CANCELLING, "cancelled") if job.state.is_active() else (JobState.CANCELLED, None)
        if action is resume:
            return (JobState.QUEUED, None) if job.state is JobState.PAUSED else None
        if job.state is JobState.QUEUED:
            return JobState.PAUSED, None
        may_pause = KINDS[job.kind].can_resume and job.state in {JobState.RUNNING, JobState.PAUSING}
        return (JobState.PAUSING, "paused") if may_pause else None

    # --- what workers and runners do ---

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), worker=st.sampled_from(WORKERS))
    def claim_what_waits(self, data: st.DataObject, worker: str) -> None:
        self.let_back_offs_pass()
        self.claim(self.queue_of(data.draw(st.sampled_from(sorted(self.claimable())))), worker)

    @rule(queue=st.sampled_from(["prepare", "pretrain"]), worker=st.sampled_from(WORKERS))
    def claim(self, queue: str, worker: str) -> None:
        waiting = {id_ for id_ in self.claimable() if self.queue_of(id_) == queue}
        job = write(self.database, claim, queue, worker, ["cpu-0"], LEASE_SECONDS)
        assert (job.id if job else None) in (waiting or {None})
        if job is not None:
            expected = self.jobs[job.id]
            expected.state, expected.attempt, expected.stop = JobState.RUNNING, expected.attempt + 1, None
            assert job.attempt == expected.attempt

    @precondition(lambda self: self.active())
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(self.active()))
        assert (
            write(self.database, renew, job_id, self.jobs[job_id].attempt, LEASE_SECONDS).stop_requested == self.jobs[job_id].stop
        )

    @precondition(lambda self: self.active())
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES))
    def end(self, data: st.DataObject, outcome: Outcome) -> None:
        job_id = data.draw(st.sampled_from(self.active()))
        wishes = {Outcome.PAUSED: {None, "paused", "cancelled"}, Outcome.CANCELLED: {"cancelled"}}
        if self.jobs[job_id].stop in wishes.get(outcome, {self.jobs[job_id].stop}):
            self.finish_as(job_id, outcome)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def write_as_somebody_else(self, data: st.DataObject) -> None:
        job_id = self.pick(data)
        expected = self.jobs[job_id]
        numbers = {expected.attempt - 1, expected.attempt, expected.attempt + 1, 1}
        if expected.state.is_active():
            numbers.remove(expected.attempt)
        before = self.rows(job_id)
        for name, number in itertools.product(STALE_WRITES, sorted(numbers)):
            with pytest.raises(StaleAttempt):
                write(self.database, STALE_WRITES[name], job_id, number)
        assert self.rows(job_id) == before

    # --- what time and the scheduler do ---

    @rule()
    def let_back_offs_pass(self) -> None:
        with self.database.write() as session:
            for job in session.exec(select(Job)).all():
                job.not_before = 0.0

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), is_dead=st.booleans())
    def look_at_lease(self, data: st.DataObject, is_dead: bool) -> None:
        job_id = self.pick(data)
        if is_dead and self.jobs[job_id].state.is_active():
            self.factory.update(Job(id=job_id), lease_expires_at=1.0)
            self.expect_end(job_id, Outcome.NODE_LOST, lambda: self.end_lease(job_id))
        else:
            before = self.rows(job_id)
            self.end_lease(job_id)
            assert self.rows(job_id) == before, "a live lease was ended"

    def end_lease(self, job_id: str) -> None:
        write(self.database, end_dead_lease, job_id, GRACE_SECONDS, LEASE_SECONDS)

    # --- what must hold after every step ---

    @invariant()
    def model_and_rows_agree(self) -> None:
        with self.database.read() as session:
            now, page = read_clock(session), list_jobs(session, "")
            assert compare_tallies(session) == {}
        assert page.unreadable == []
        assert {row.id: (row.state, row.attempt) for row in page.jobs} == {
            id_: (job.state, job.attempt) for id_, job in self.jobs.items()
        }
        for job_id in self.active():
            assert self.factory.get(Job, job_id).stop_requested == self.jobs[job_id].stop
        assert [violation for row in page.jobs for violation in check_job(row, now)] == []

    @invariant()
    def what_ended_stays_as_it_was(self) -> None:
        for job_id, rows in self.finished.items():
            assert self.rows(job_id) == rows

    def teardown(self) -> None:
        """From wherever it is, every job can still come to its end."""
        if not hasattr(self, "database"):
            return
        for job_id, job in self.jobs.items():
            if job.state is JobState.PAUSED:
                write(self.database, lambda session, id_: resume(session, session.get(Job, id_)), job_id)
                job.state = JobState.QUEUED
        self.let_back_offs_pass()
        while waiting := self.claimable():
            self.claim(self.queue_of(next(iter(waiting))), WORKERS[0])
            for job_id in self.active():
                self.finish_as(job_id, Outcome.SUCCEEDED)
        for job_id in self.active():
            self.finish_as(job_id, Outcome.SUCCEEDED)
        self.model_and_rows_agree()
        assert {job.state for job in self.jobs.values()} <= FINISHED
        self.database.dispose()
        shutil.rmtree(self.folder)

    # --- the model's own arithmetic ---

    def finish_as(self, job_id: str, outcome: Outcome) -> None:
        number = self.jobs[job_id].attempt
        self.expect_end(job_id, outcome, lambda: write(self.database, finish, job_id, number, outcome))

    def expect_end(self, job_id: str, outcome: Outcome, act: Callable[[], Any]) -> None:
        """End an attempt, and compare where the job goes with what its budget says."""
        job = self.jobs[job_id]
        job.history.append(outcome)
        allowed = self.after(job, outcome)
        act()
        row = self.factory.get(Job, job_id)
        assert row.state in allowed, f"{row.state} after {outcome} in {job}"
        job.state, job.stop = JobState(row.state), None
        if job.state in FINISHED:
            self.finished[job_id] = self.rows(job_id)

    def after(self, job: Expected, outcome: Outcome) -> set[JobState]:
        """Where a job may go after an attempt ended."""
        if outcome is Outcome.SUCCEEDED:
            return {JobState.SUCCEEDED}
        if job.stop == "cancelled" or outcome is Outcome.CANCELLED:
            return {JobState.CANCELLED}
        if outcome is Outcome.PAUSED:
            return {JobState.PAUSED}
        again = JobState.PAUSED if job.stop == "paused" else JobState.QUEUED
        if outcome in HANDED_OVER:
            return {again}
        if outcome in TROUBLE:
            # Never the user's budget; only one that meets trouble again and again is taken out of the line.
            troubles = sum(past in TROUBLE for past in job.history)
            return {again, JobState.QUARANTINED, JobState.FAILED} if troubles > 2 else {again}
        is_over = outcome in NEVER_RETRIED or job.own_failures >= job.max_attempts
        return {JobState.FAILED} if is_over else {again}

    def pick(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(list(self.jobs)))

    def active(self) -> list[str]:
        return [id_ for id_, job in getattr(self, "jobs", {}).items() if job.state.is_active()]

    def claimable(self) -> set[str]:
        return {id_ for id_ in self.waiting() if self.factory.get(Job, id_).not_before <= self.database.now()}

    def waiting(self) -> list[str]:
        return [id_ for id_, job in getattr(self, "jobs", {}).items() if job.state is JobState.QUEUED]

    def queue_of(self, job_id: str) -> str:
        return KINDS[self.jobs[job_id].kind].stage

    def rows(self, job_id: str) -> dict[str, Any]:
        """Everything the database has about a job."""
        tables: list[Any] = [Attempt, Checkpoint, JobEvent, LogChunk, MetricPoint]
        found = {table.__tablename__: [row.model_dump() for row in self.of_job(table, job_id)] for table in tables}
        return {"job": self.factory.get(Job, job_id).model_dump(exclude={"not_before"}), **found}

    def of_job(self, table: Any, job_id: str) -> list[Any]:
        return self.factory.find(select(table).where(table.job_id == job_id).order_by(table.id))

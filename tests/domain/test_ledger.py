"""The ledger: every slot-second an attempt held is in exactly one column."""

from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from factories import Factory, write
from hypothesis import given
from hypothesis import strategies as st
from ledger_rows import rebook
from sqlmodel import select

from modelyard.domain.jobs.lifecycle import JobState, Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.recording import Batch, add_checkpoint, record
from modelyard.domain.jobs.tables import Attempt, Job
from modelyard.domain.usage.accounting import AttemptTimeline, Split, account
from modelyard.domain.usage.periods import DAY_SECONDS, Days, Period, split_period
from modelyard.domain.usage.repository import list_entries, report
from modelyard.domain.usage.rollbacks import find_lost
from modelyard.domain.usage.sums import BY_DAY, Grouping, Scope, sum_entries
from modelyard.domain.usage.tables import UsageEntry
from modelyard.kit.database import Database

MOMENTS = st.none() | st.floats(-1e3, 1e3)


def timeline(outcome: str | None = "succeeded", **moments: object) -> AttemptTimeline:
    """Starts at 0, steps from 10 to 90, ends at 100."""
    usual = {"slots": 1, "started_at": 0.0, "first_step_at": 10.0, "last_step_at": 90.0, "finished_at": 100.0}
    return AttemptTimeline(**{**usual, "outcome": outcome, **moments})  # type: ignore[arg-type]


class TestAccount:
    @pytest.mark.parametrize(
        ("given_", "split"),
        [
            (timeline(), Split(starting=10, useful=80, idle=10)),
            (timeline(slots=4), Split(starting=40, useful=320, idle=40)),
            (timeline(None), Split(starting=10, useful=90)),
            (timeline(None, first_step_at=None, last_step_at=None), Split(starting=100)),
            (timeline("node_lost", saved_at=60.0, goes_on=True), Split(starting=10, useful=50, redone=30, idle=10)),
            (timeline("node_lost", goes_on=True), Split(starting=10, redone=80, idle=10)),
            (timeline("preempted", saved_at=90.0, goes_on=True), Split(starting=10, useful=80, idle=10)),
            (timeline("hang", last_step_at=20.0, saved_at=15.0, goes_on=True), Split(starting=10, useful=5, redone=5, idle=80)),
            (timeline("nan", saved_at=60.0), Split(starting=10, useful=50, failed=30, idle=10)),
            (timeline("user_code"), Split(failed=90, idle=10)),
            (timeline("oom_gpu", first_step_at=None, last_step_at=None), Split(failed=100)),
            (timeline("user_code", first_step_at=None, last_step_at=None, goes_on=True), Split(starting=100)),
            # The recipe's clock is behind, or ahead of, the database's.
            (timeline(first_step_at=-5.0, last_step_at=120.0), Split(useful=100)),
            (timeline("node_lost", saved_at=5.0, goes_on=True), Split(starting=10, redone=80, idle=10)),
            # It went back by itself: once; three times to the same state; as a gang of four.
            (timeline(lost=((30.0, 50.0),)), Split(starting=10, useful=60, redone=20, idle=10)),
            (timeline(lost=((30.0, 40.0), (40.0, 45.0), (60.0, 65.0))), Split(starting=10, useful=60, redone=20, idle=10)),
            (timeline(slots=4, lost=((30.0, 50.0),)), Split(starting=40, useful=240, redone=80, idle=40)),
            (timeline(None, lost=((30.0, 50.0),)), Split(starting=10, useful=70, redone=20)),
            # To before its first step, which is starting; told twice; after its end by another clock.
            (timeline(lost=((2.0, 50.0),)), Split(starting=10, useful=40, redone=40, idle=10)),
            (timeline(lost=((30.0, 50.0), (30.0, 50.0), (40.0, 55.0))), Split(starting=10, useful=55, redone=25, idle=10)),
            (timeline(lost=((120.0, 130.0), (50.0, 40.0))), Split(starting=10, useful=80, idle=10)),
            # And then it was lost, preempted, or failed: before its newest checkpoint, across it, after it.
            (timeline("node_lost", saved_at=60.0, goes_on=True, lost=((30.0, 50.0),)), Split(10, 30, 20 + 30, 10)),
            (timeline("node_lost", saved_at=40.0, goes_on=True, lost=((30.0, 50.0),)), Split(10, 20, 10 + 50, 10)),
            (timeline("node_lost", saved_at=30.0, goes_on=True, lost=((30.0, 50.0),)), Split(10, 20, 60, 10)),
            (timeline("preempted", saved_at=90.0, goes_on=True, lost=((30.0, 50.0),)), Split(10, 60, 20, 10)),
            (timeline("nan", saved_at=60.0, lost=((30.0, 50.0), (60.0, 80.0))), Split(10, 30, 20, 10, 30)),
            (timeline("nan", lost=((30.0, 50.0),)), Split(failed=90, idle=10)),
        ],
    )
    def test_says_what_came_of_the_time(self, given_: AttemptTimeline, split: Split) -> None:
        assert account(given_) == split

    @given(
        slots=st.integers(1, 64),
        length=st.floats(0, 1e6),
        moments=st.tuples(MOMENTS, MOMENTS, MOMENTS),
        lost=st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), max_size=4),
        outcome=st.none() | st.sampled_from(Outcome),
        goes_on=st.booleans(),
    )
    def test_adds_up_to_what_was_held(
        self, slots: int, length: float, moments: tuple[Any, Any, Any], lost: list[Any], outcome: str | None, goes_on: bool
    ) -> None:
        split = account(
            AttemptTimeline(slots, 100.0, 100.0 + length, *moments, outcome=outcome, goes_on=goes_on, lost=tuple(lost))
        )
        assert split.total == pytest.approx(slots * length, rel=1e-9, abs=1e-6)
        assert min(split.starting, split.useful, split.redone, split.idle, split.failed) >= 0


class TestEnter:
    def test_an_ended_attempt_has_an_entry_by_what_it_reported(self, database: Database, factory: Factory) -> None:
        factory.registered()
        job = factory.running("pretrain", slots=2)
        start = factory.find(select(Attempt))[0].started_at
        steps = [{"type": "metric", "step": n, "values": {"loss": 2.0}, "at": start + 10 * n} for n in (1, 2, 3)]
        write(database, record, job.id, 1, Batch(steps[:2], 10), start)
        write(database, record, job.id, 1, Batch(steps[2:], 20), start)
        write(database, add_checkpoint, job.id, 1, 2, "key", {"sha256": "0", "bytes": 1}, {}, start + 20)
        with database.write() as session:
            attempt = session.exec(select(Attempt)).one()
            attempt.started_at, attempt.queued_at = start - 5.0, start - 25.0
            job = finish(session, job.id, 1, Outcome.RUNNER_LOST)
        assert job.state == JobState.QUEUED
        (entry,) = factory.find(select(UsageEntry))
        # It ended at once by the database's clock, so all that it reported lies after its end.
        assert entry.waiting_seconds == pytest.approx(20.0)
        assert entry.slots == 2
        assert entry.starting == pytest.approx(2 * (entry.finished_at - entry.started_at))
        with database.read() as session:
            known = session.exec(select(Attempt)).one()
            assert (known.first_step_at, known.last_step_at, known.saved_at) == (start + 10, start + 30, start + 20)

    def test_steps_an_attempt_went_back_behind_are_redone(self, database: Database, factory: Factory) -> None:
        factory.registered()
        job = factory.running("pretrain", slots=2)
        factory.update(job, nodes=2)
        with database.write() as session:
            attempt = session.exec(select(Attempt)).one()
            attempt.started_at = start = attempt.started_at - 100.0
        write(database, record, job.id, 1, Batch([step(1, start + 10.0), step(2, start + 40.0)], 10), start)
        told = [event for stretch in ((20.0, 40.0), (40.0, 45.0)) for event in went_back(start, *stretch)]
        write(database, record, job.id, 1, Batch([*told, step(2, start + 60.0)], 20), start)
        with database.read() as session:
            (row,) = report(session, Grouping.JOB)
            (entry,) = list_entries(session, session.get_one(Job, job.id))
        assert row.has_running
        assert [row.split.redone, entry.redone] == pytest.approx([100.0, 100.0])
        write(database, finish, job.id, 1, Outcome.SUCCEEDED)
        (entry,) = factory.find(select(UsageEntry))
        split = [entry.starting, entry.useful, entry.redone]
        assert split == pytest.approx([4 * 10.0, 4 * 25.0, 4 * 25.0])

    def test_each_attempt_has_its_own(self, database: Database, factory: Factory) -> None:
        factory.registered()
        job = factory.running("pretrain")
        start = factory.find(select(Attempt))[0].started_at
        write(database, record, job.id, 1, Batch(went_back(start, 20.0, 40.0), 10), start)
        write(database, finish, job.id, 1, Outcome.PREEMPTED)
        job = factory.claimed(job)
        with database.read() as session:
            assert find_lost(session, [job]) == {(job.id, 1): [(start + 20.0, start + 40.0)]}
        with database.write() as session:
            session.exec(select(Attempt).where(Attempt.seq == 2)).one().started_at -= 100.0
        write(database, record, job.id, 2, Batch([step(9, start - 50.0), step(10, start)], 10), start)
        write(database, finish, job.id, 2, Outcome.SUCCEEDED)
        assert [entry.redone for entry in factory.find(select(UsageEntry).where(UsageEntry.attempt == 2))] == [0.0]


def step(number: int, at: float) -> dict[str, Any]:
    return {"type": "metric", "step": number, "values": {"loss": 2.0}, "at": at}


def went_back(start: float, lost_from: float, lost_until: float) -> list[dict[str, Any]]:
    """What a recipe tells when it goes back."""
    stretch = {"lost_from": start + lost_from, "lost_until": start + lost_until}
    at = start + lost_until
    return [
        {"type": "figures", "values": {"rollbacks": 1}, "at": at},
        {"type": "rolled_back", "from_step": 2, "to_step": 1, "why": "the loss is nan", **stretch, "at": at},
    ]


class TestReport:
    @pytest.mark.parametrize("grouping", list(Grouping))
    def test_groups_add_up_to_the_same_total(self, database: Database, factory: Factory, grouping: Grouping) -> None:
        factory.registered()
        ended = [factory.running("import"), factory.running("pretrain", slots=2), factory.running("import", project="other")]
        for job in ended:
            write(database, finish, job.id, 1, Outcome.SUCCEEDED)
        running = factory.running("prepare")
        with database.write() as session:
            rebook(session, lambda entry: {"useful": entry.useful + 100.0 * entry.slots})
        with database.read() as session:
            rows = report(session, grouping)
            mine = report(session, grouping, factory.project_id)
            one = report(session, grouping, job_id=ended[1].id)
        assert sum(row.split.useful for row in rows) == pytest.approx(400, abs=30)
        assert sum(row.split.useful for row in mine) == pytest.approx(300, abs=30)
        assert [round(row.split.useful, -2) for row in one] == [200]
        assert sum(row.attempts for row in rows) == 4
        assert any(row.has_running for row in rows)
        keys = {
            "project": {"default", "other"},
            "job": {job.id for job in (*ended, running)},
            "kind": {"import", "pretrain", "prepare"},
            "accelerator": {"cpu"},
            "attempt": {f"{job.id}:1" for job in (*ended, running)},
            "month": {datetime.fromtimestamp(running.submitted_at, UTC).strftime("%Y-%m")},
        }
        assert {row.key for row in rows} == keys[grouping]

    def test_a_period_leaves_out_what_ended_before_or_after(self, database: Database, factory: Factory) -> None:
        job = factory.running("import")
        write(database, finish, job.id, 1, Outcome.SUCCEEDED)
        ended = factory.find(select(UsageEntry))[0].finished_at
        for period, attempts in (
            (Period(ended - 1), 1),
            (Period(ended + 1), 0),
            (Period(0, ended), 0),
            (Period(0, ended + 1), 1),
        ):
            with database.read() as session:
                assert sum(row.attempts for row in report(session, Grouping.KIND, period=period)) == attempts

    @pytest.mark.parametrize("grouping", BY_DAY)
    def test_days_and_parts_of_days_add_up_to_the_entries(self, database: Database, factory: Factory, grouping: Grouping) -> None:
        for _ in range(8):
            write(database, finish, factory.running("import").id, 1, Outcome.SUCCEEDED)
        numbers = count(1)
        with database.write() as session:  # one ended at each quarter of two days around the turn of a month
            rebook(session, lambda _: {"finished_at": 28 * DAY_SECONDS + next(numbers) * DAY_SECONDS, "useful": 1.0})
        for start, end in ((0.0, None), (29.5, 34.25), (30.0, 33.0), (30.1, 30.9), (31.0, 31.0), (35.0, None)):
            period = Period(start * DAY_SECONDS, None if end is None else end * DAY_SECONDS)
            with database.read() as session:
                by_day = report(session, grouping, factory.project_id, period=period)
                by_entry = sum_entries(session, grouping, Scope(factory.project_id), period)
            found, expected = ({row.key: (row.attempts, row.split.useful) for row in rows} for rows in (by_day, by_entry))
            assert found == expected

    def test_only_the_largest_with_what_runs_of_them(self, database: Database, factory: Factory) -> None:
        ended = [factory.running("import") for _ in range(3)]
        for job in ended:
            write(database, finish, job.id, 1, Outcome.SUCCEEDED)
        lost = factory.running("import")
        write(database, finish, lost.id, 1, Outcome.DRAINED)
        sizes = {job.id: size for job, size in zip((*ended, lost), (300.0, 100.0, 200.0, 50.0), strict=True)}
        with database.write() as session:
            rebook(session, lambda entry: {"useful": sizes[entry.job_id]})
        again = factory.claimed(lost)
        factory.update(again, started_at=again.started_at)
        with database.write() as session:
            session.exec(select(Attempt).where(Attempt.job_id == lost.id, Attempt.seq == 2)).one().started_at -= 200.0
        with database.read() as session:
            rows = report(session, Grouping.JOB, factory.project_id, limit=2)
        assert [(row.key, row.attempts) for row in rows] == [(ended[0].id, 1), (lost.id, 2)]

    def test_a_running_attempt_is_in_its_jobs_list(self, database: Database, factory: Factory) -> None:
        job = factory.running("import")
        with database.read() as session:
            (entry,) = list_entries(session, job)
        assert entry.starting == pytest.approx(entry.finished_at - entry.started_at)


class TestSplitPeriod:
    @pytest.mark.parametrize(
        ("start", "end", "days", "edges"),
        [
            (0.0, None, Days(0), []),
            (2.0, None, Days(2), []),
            (1.5, None, Days(2), [(1.5, 2.0)]),
            (1.5, 3.5, Days(2, 3), [(1.5, 2.0), (3.0, 3.5)]),
            (1.0, 3.0, Days(1, 3), []),
            (1.25, 1.5, None, [(1.25, 1.5)]),
            (1.5, 2.0, None, [(1.5, 2.0)]),
            (1.5, 2.5, None, [(1.5, 2.0), (2.0, 2.5)]),
            (2.0, 2.5, None, [(2.0, 2.5)]),
        ],
    )
    def test_table(self, start: float, end: float | None, days: Days | None, edges: list[tuple[float, float]]) -> None:
        found, parts = split_period(Period(start * DAY_SECONDS, None if end is None else end * DAY_SECONDS))
        assert found == days
        assert [(part.start / DAY_SECONDS, (part.end or 0.0) / DAY_SECONDS) for part in parts] == edges

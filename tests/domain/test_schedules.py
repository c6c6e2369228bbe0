"""Schedules: their times, what is submitted at them, and why sometimes nothing is."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from factories import Factory, spec_of, write
from sqlmodel import Session, select

from modelyard.domain.errors import DomainError, InvalidRequest
from modelyard.domain.jobs.tables import Job
from modelyard.domain.pipelines.tables import Pipeline
from modelyard.domain.schedules.repository import list_due, list_slots
from modelyard.domain.schedules.service import NameTaken, ScheduleRequest, change_schedule, create_schedule, fill_slot
from modelyard.domain.schedules.slots import Due, check_timing, choose, upcoming
from modelyard.domain.schedules.tables import Schedule, ScheduleSlot

BERLIN = ZoneInfo("Europe/Berlin")
HOUR, DAY = 3600.0, 86_400.0
JOB = {"spec": spec_of("import"), "priority": 70}
PIPELINE = {"name": "nightly", "jobs": {"a": {"spec": spec_of("prepare")}, "b": {"spec": spec_of("pretrain", dataset="${a}")}}}


def at(text: str) -> float:
    """Wall clock time in Berlin; `*` behind it: the second of two."""
    moment = datetime.fromisoformat(text.rstrip("*")).replace(tzinfo=BERLIN)
    return moment.replace(fold=1 if text.endswith("*") else 0).timestamp()


def make(factory: Factory, **request: Any) -> Schedule:
    """A schedule whose times are so rare that none comes by itself while a test runs."""
    values: dict[str, Any] = {"name": "seldom", "cron": "0 0 29 2 *", "job": JOB, **request}
    schedule: Schedule = write(factory.database, create_schedule, factory.project_id, ScheduleRequest(**values))
    return schedule


def become_due(factory: Factory, schedule: Schedule, seconds_ago: float = 1.0) -> float:
    """Let a time of a schedule have come; return it."""
    due_at = factory.database.now() - seconds_ago
    with factory.database.write() as session:
        row = session.get_one(Schedule, schedule.id)
        row.next_at = due_at
    return due_at


def fill(factory: Factory, schedule: Schedule) -> ScheduleSlot | None:
    """Do what a scheduler does."""
    slot: ScheduleSlot | None = write(factory.database, fill_slot, schedule.id)
    return slot


class TestUpcoming:
    @pytest.mark.parametrize(
        ("cron", "after", "expected"),
        [
            ("30 2 * * *", "2027-03-27T03:00", ["2027-03-28T03:00", "2027-03-29T02:30"]),
            ("0 * * * *", "2027-03-28T00:30", ["2027-03-28T01:00", "2027-03-28T03:00", "2027-03-28T04:00"]),
            ("30 2 * * *", "2027-10-30T03:00", ["2027-10-31T02:30", "2027-11-01T02:30"]),
            ("30 2 * * *", "2027-10-31T02:30", ["2027-11-01T02:30"]),
            ("30 2 * * *", "2027-10-31T02:15*", ["2027-11-01T02:30"]),
            ("0 * * * *", "2027-10-31T01:30", ["2027-10-31T02:00", "2027-10-31T02:00*", "2027-10-31T03:00"]),
            ("0 6 * * MON-FRI", "2027-01-08T06:00", ["2027-01-11T06:00"]),
        ],
    )
    def test_follows_the_clock_of_its_timezone(self, cron: str, after: str, expected: list[str]) -> None:
        assert upcoming(cron, "Europe/Berlin", at(after), len(expected)) == [at(each) for each in expected]


class TestChoose:
    @pytest.mark.parametrize(
        ("cron", "since", "now", "expected"),
        [
            ("0 * * * *", 0, 1, Due(0, False, 0, HOUR)),
            ("0 * * * *", 0, HOUR, Due(HOUR, False, 1, 2 * HOUR)),
            ("0 * * * *", 0, 5 * HOUR + 1, Due(5 * HOUR, False, 5, 6 * HOUR)),
            ("0 * * * *", 0, 100 * HOUR + 1, Due(100 * HOUR, False, 23, 101 * HOUR)),
            ("0 0 * * *", 0, DAY + 1, Due(DAY, False, 0, 2 * DAY)),
            ("0 0 1 * *", 0, DAY + 1, Due(0, True, 0, 31 * DAY)),
            ("0 0 1 * *", 0, DAY, Due(0, False, 0, 31 * DAY)),
        ],
    )
    def test_the_newest_within_a_day(self, cron: str, since: float, now: float, expected: Due) -> None:
        assert choose(cron, "UTC", since, now) == expected


class TestCreate:
    @pytest.mark.parametrize(
        ("changes", "field", "says"),
        [
            ({"cron": "every day"}, "cron", "2 fields; five are wanted"),
            ({"cron": "* * * * * *"}, "cron", "6 fields"),
            ({"cron": "0 25 * * *"}, "cron", "Bad hour"),
            ({"timezone": "Europe/Bonn"}, "timezone", "IANA"),
            ({"timezone": "../etc/passwd"}, "timezone", "IANA"),
            ({"job": {"spec": spec_of("pretrain")}}, "job.spec.dataset", "does not exist"),
            ({"job": {"spec": spec_of("import"), "resources": {"slots": 2}}}, "job.resources.slots", "one slot"),
            ({"job": {"spec": spec_of("import"), "color": "red"}}, "job.color", "not permitted"),
            (
                {"job": None, "pipeline": {"name": "x", "jobs": {"a": {"spec": spec_of("pretrain")}}}},
                "pipeline.jobs.a.spec.dataset",
                "does not exist",
            ),
        ],
    )
    def test_tries_what_it_will_submit(self, factory: Factory, changes: dict[str, Any], field: str, says: str) -> None:
        with pytest.raises(DomainError, match=says) as caught:
            make(factory, **changes)
        assert caught.value.field == field
        assert factory.find(select(Schedule)) == []

    def test_leaves_nothing_of_the_try(self, factory: Factory) -> None:
        make(factory)
        make(factory, name="other", job=None, pipeline=PIPELINE)
        assert factory.find(select(Job)) + factory.find(select(Pipeline)) == []

    def test_names_are_unique(self, factory: Factory) -> None:
        make(factory)
        with pytest.raises(NameTaken):
            make(factory)

    def test_a_time_that_never_comes(self) -> None:
        with pytest.raises(InvalidRequest):
            check_timing("0 0 30 2 *", "UTC")


class TestChange:
    def test_what_passed_while_it_was_paused_is_not_caught_up(self, factory: Factory) -> None:
        schedule = make(factory, cron="0 * * * *", paused=True)
        become_due(factory, schedule, 5 * HOUR)

        def resume(session: Session) -> None:
            change_schedule(session, session.get_one(Schedule, schedule.id), {"paused": False})

        assert write(factory.database, list_due) == []
        write(factory.database, resume)
        assert write(factory.database, list_due) == []
        assert factory.get(Schedule, schedule.id).next_at > factory.database.now()


class TestFill:
    def test_submits_as_a_client_would(self, factory: Factory) -> None:
        schedule = make(factory)
        assert fill(factory, schedule) is None
        due_at = become_due(factory, schedule)
        assert write(factory.database, list_due) == [schedule.id]
        slot = fill(factory, schedule)
        assert slot is not None
        assert (slot.at, slot.message) == (due_at, None)
        job = factory.get(Job, slot.job_id)
        assert (job.state, job.priority, job.kind, job.project_id) == ("queued", 70, "import", factory.project_id)
        assert fill(factory, schedule) is None
        assert factory.get(Schedule, schedule.id).next_at > due_at

    def test_pipelines_too(self, factory: Factory) -> None:
        schedule = make(factory, job=None, pipeline=PIPELINE)
        become_due(factory, schedule)
        slot = fill(factory, schedule)
        assert slot is not None
        assert slot.job_id is None
        assert {job.pipeline_id for job in factory.find(select(Job))} == {slot.pipeline_id}

    @pytest.mark.parametrize(("seconds_ago", "says"), [(5.5 * HOUR, "Skipped "), (30 * DAY, "Skipped 23 earlier times: ")])
    def test_after_an_outage_the_newest_only(self, factory: Factory, seconds_ago: float, says: str) -> None:
        schedule = make(factory, cron="0 * * * *")
        become_due(factory, schedule, seconds_ago)
        slot = fill(factory, schedule)
        assert slot is not None
        assert [job.id for job in factory.find(select(Job))] == [slot.job_id]
        assert factory.database.now() - slot.at < HOUR
        assert says in str(slot.message)

    def test_what_is_too_old_is_left_out(self, factory: Factory) -> None:
        schedule = make(factory, cron="0 0 1 1 *")
        become_due(factory, schedule, 25 * HOUR)
        slot = fill(factory, schedule)
        assert slot is not None
        assert slot.job_id is None
        assert "more than 24 h" in str(slot.message)

    @pytest.mark.parametrize(("overlap", "runs"), [(False, 1), (True, 2)])
    def test_runs_overlap_only_if_they_may(self, factory: Factory, overlap: bool, runs: int) -> None:
        schedule = make(factory, overlap=overlap)
        for seconds_ago in (2.0, 1.0):
            become_due(factory, schedule, seconds_ago)
            fill(factory, schedule)
        jobs = factory.find(select(Job))
        assert len(jobs) == runs
        with factory.database.read() as session:
            newest = list_slots(session, schedule.id)[0]
        if not overlap:
            assert newest.message == f"Left out: the run before, job {jobs[0].id}, is queued, and `overlap` is false"
            factory.update(jobs[0], state="failed")
            become_due(factory, schedule, 0.5)
            fill(factory, schedule)
            assert len(factory.find(select(Job))) == 2

    def test_what_cannot_be_submitted_any_more_says_so(self, factory: Factory) -> None:
        corpus = factory.registered()
        schedule = make(factory, job={"spec": spec_of("pretrain")})
        with factory.database.write() as session:
            session.delete(session.get_one(type(corpus), corpus.id))
        become_due(factory, schedule)
        slot = fill(factory, schedule)
        assert slot is not None
        assert slot.job_id is None
        assert str(slot.message).startswith("Refused: spec.dataset names the dataset 'corpus', which does not exist")
        assert factory.find(select(Job)) == []
        assert fill(factory, schedule) is None

    def test_half_a_pipeline_is_none(self, factory: Factory) -> None:
        schedule = make(factory, job=None, pipeline={"name": "x", "jobs": {"a": {"spec": spec_of("import")}}})
        wrong = {"spec": spec_of("import"), "resources": {"slots": 2}}
        with factory.database.write() as session:
            row = session.get_one(Schedule, schedule.id)
            row.pipeline = {"name": "x", "jobs": {"a": {"spec": spec_of("import")}, "b": wrong}}
        become_due(factory, schedule)
        slot = fill(factory, schedule)
        assert slot is not None
        assert str(slot.message).startswith("Refused: resources.slots: a import job")
        assert factory.find(select(Job)) + factory.find(select(Pipeline)) == []

    def test_a_slot_that_is_filled_stays_as_it_is(self, factory: Factory) -> None:
        schedule = make(factory)
        due_at = become_due(factory, schedule)
        fill(factory, schedule)
        with factory.database.write() as session:
            session.get_one(Schedule, schedule.id).next_at = due_at
        assert fill(factory, schedule) is None
        assert len(factory.find(select(Job))) == 1
        assert factory.get(Schedule, schedule.id).next_at > due_at

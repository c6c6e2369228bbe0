"""What a running attempt reports arrives once, whole, and in order."""

import math
from itertools import count
from typing import Any

from factories import Factory, write
from sqlmodel import select

from modelyard.domain.jobs.recording import Batch, add_checkpoint, record
from modelyard.domain.jobs.repository import last_log_lines, list_checkpoints, list_logs, list_metrics
from modelyard.domain.jobs.tables import Attempt, Job, JobEvent


def event(type_: str, **values: Any) -> dict[str, Any]:
    """An event as a recipe writes it."""
    return {"type": type_, "at": 12.5, **values}


OFFSETS = count(start=100, step=100)


def report(
    factory: Factory, job: Job, *events: dict[str, Any], logs: tuple[tuple[int, str], ...] = (), offset: int | None = None
) -> None:
    """Record one batch, read up to an offset of its own unless one is given."""
    offset = next(OFFSETS) if offset is None else offset
    write(factory.database, record, job.id, job.attempt, Batch(list(events), offset, list(logs)), 99.0)


class TestRecord:
    def test_metrics_become_points(self, factory: Factory) -> None:
        job = factory.running()
        values = {"loss": 2.5, "nan": math.nan, "infinite": math.inf, "text": "x"}
        report(factory, job, event("metric", step=1, values=values), event("metric", step=2, values={"loss": 2}))
        with factory.database.read() as session:
            points = list_metrics(session, job.id)
            assert {point.name: point.value for point in points if point.step == 1} == {
                "loss": 2.5,
                "nan": None,
                "infinite": None,
                "text": None,
            }
            assert [(point.step, point.value, point.at) for point in list_metrics(session, job.id, "loss")] == [
                (1, 2.5, 12.5),
                (2, 2.0, 12.5),
            ]

    def test_figures_add_up_and_hold_no_nan(self, factory: Factory) -> None:
        job = factory.running()
        report(factory, job, event("figures", values={"rows": 1, "loss": 2.0}))
        report(factory, job, event("figures", values={"loss": math.nan}), event("figures", values={"done": True}))
        assert factory.get(Job, job.id).figures == {"rows": 1, "loss": None, "done": True}

    def test_a_batch_whose_commit_went_unanswered_counts_once(self, factory: Factory) -> None:
        job = factory.running()
        for _ in range(2):
            report(factory, job, event("metric", step=1, values={"loss": 2.5}), event("note"), offset=40)
        with factory.database.read() as session:
            assert len(list_metrics(session, job.id)) == 1
        assert [row.type for row in factory.find(select(JobEvent))].count("note") == 1

    def test_only_the_newest_progress_counts(self, factory: Factory) -> None:
        job = factory.running()
        report(factory, job, *[event("progress", fraction=each / 10, message=f"step {each}") for each in range(4)])
        now = factory.get(Job, job.id)
        assert (now.progress, now.progress_message) == (0.3, "step 3")

    def test_events_in_order_without_the_frequent_ones(self, factory: Factory) -> None:
        job = factory.running()
        events = [
            event("note", n=1),
            event("metric", step=1, values={}),
            event("progress", fraction=0.1, message=""),
            event("note", n=2),
        ]
        report(factory, job, *events)
        rows = factory.find(select(JobEvent).where(JobEvent.type != "state").order_by(JobEvent.id))
        assert [(row.type, row.attempt, row.data) for row in rows] == [("note", 1, {"n": 1}), ("note", 1, {"n": 2})]

    def test_the_offset_comes_with_the_batch(self, factory: Factory) -> None:
        job = factory.running()
        report(factory, job, event("note"), offset=140)
        assert factory.find(select(Attempt))[0].events_offset == 140

    def test_nothing_of_a_batch_that_fails(self, factory: Factory) -> None:
        import pytest

        job = factory.running()
        with pytest.raises(KeyError):
            report(factory, job, event("note"), event("metric"), logs=((0, "line"),))
        with factory.database.read() as session:
            assert list_logs(session, job.id) == []
        assert factory.find(select(JobEvent).where(JobEvent.type == "note")) == []

    def test_logs_of_all_ranks(self, factory: Factory) -> None:
        job = factory.running()
        report(factory, job, logs=((0, "one\ntwo\n"), (1, "nul\0\n\n")))
        with factory.database.read() as session:
            assert [(chunk.rank, chunk.text) for chunk in list_logs(session, job.id)] == [(0, "one\ntwo\n"), (1, "nul\n\n")]
            assert last_log_lines(session, job.id, 1, 2) == ["two", "nul"]
            assert last_log_lines(session, job.id, 2) == []


class TestCheckpoints:
    def test_the_one_to_resume_from_comes_first(self, factory: Factory) -> None:
        job = factory.running()
        manifest = {"sha256": "a" * 64, "bytes": 1}
        for step in (20, 10, 30):
            write(factory.database, add_checkpoint, job.id, 1, step, f"key-{step}", manifest, {"loss": math.nan}, 0.0)
        with factory.database.read() as session:
            found = list_checkpoints(session, job.id)
            assert [each.step for each in found] == [30, 20, 10]
            assert found[0].metrics == {"loss": None}

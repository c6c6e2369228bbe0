"""Rows go in as SQLAlchemy would put them in, on both databases."""

import math

import pytest
from factories import Factory
from sqlmodel import select

from modelyard.domain.jobs.tables import JobEvent, MetricPoint
from modelyard.kit.rows import insert_rows


class TestInsert:
    def test_json_numbers_and_nothing(self, factory: Factory) -> None:
        job = factory.job()
        data = {"text": "ä \0 % ? %s", "list": [1, None], "nan": math.nan}
        row = {"job_id": job.id, "attempt": 3, "type": "note % ? :x", "data": data, "created_at": 1.5}
        with factory.database.write() as session:
            insert_rows(session, JobEvent, [row, {**row, "attempt": 4, "data": {}}])
            insert_rows(session, MetricPoint, [])
        first, second = factory.find(select(JobEvent).where(JobEvent.attempt > 2).order_by(JobEvent.attempt))  # type: ignore[arg-type]
        assert (first.type, first.created_at, second.data) == ("note % ? :x", 1.5, {})
        assert first.data == {**data, "nan": None}
        assert second.id == first.id + 1

    def test_columns_may_come_in_any_order_and_number(self, factory: Factory) -> None:
        job = factory.job()
        with factory.database.write() as session:
            for value in (2.5, None):
                insert_rows(
                    session, MetricPoint, [{"at": 1.0, "name": "loss", "step": 1, "value": value, "attempt": 1, "job_id": job.id}]
                )
            insert_rows(session, MetricPoint, [{"job_id": job.id, "attempt": 1, "name": "loss", "step": 2, "at": 2.0}])
        points = factory.find(select(MetricPoint).order_by(MetricPoint.id))  # type: ignore[arg-type]
        assert [(point.step, point.value, point.at) for point in points] == [(1, 2.5, 1.0), (1, None, 1.0), (2, None, 2.0)]

    @pytest.mark.parametrize("number", [1, 63, 64, 65, 131])
    def test_many_keep_their_order(self, factory: Factory, number: int) -> None:
        job, shared = factory.job(), {"shared": True}
        rows = [
            {
                "job_id": job.id,
                "attempt": attempt,
                "type": f"{attempt}",
                "data": shared if attempt % 2 else {"own": attempt},
                "created_at": 1,
            }
            for attempt in range(1, number + 1)
        ]
        with factory.database.write() as session:
            insert_rows(session, JobEvent, rows)
        found = factory.find(select(JobEvent).where(JobEvent.attempt > 0).order_by(JobEvent.id))  # type: ignore[arg-type]
        kept = [event.model_dump(include={"job_id", "attempt", "type", "data", "created_at"}) for event in found]
        assert kept == rows

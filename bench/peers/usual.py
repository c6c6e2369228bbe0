"""The usual stack, as its tutorials show it: FastAPI, one SQLModel session per request, commit, refresh, Celery `.delay`.

uvicorn bench.peers.usual:app serves it; python -m bench.peers.usual N inserts and sends N jobs in a loop, without HTTP.
Its database is SQLite in WAL mode, which is more than most tutorials do. It knows no keys, no events and no references.
"""

import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Annotated, Any

from celery import Celery
from fastapi import Depends, FastAPI
from pydantic import BaseModel
from sqlalchemy import JSON, event
from sqlmodel import Field, Session, SQLModel, create_engine

engine = create_engine(os.environ["USUAL_DATABASE"], connect_args={"check_same_thread": False, "timeout": 30})
queue = Celery("usual", broker=os.environ["USUAL_BROKER"])
queue.conf.task_ignore_result = True


@event.listens_for(engine, "connect")
def use_wal(connection: Any, record: Any) -> None:
    """Readers and the writer do not wait for each other."""
    connection.execute("PRAGMA journal_mode=WAL")


class UsualJob(SQLModel, table=True):
    """The row."""

    id: str = Field(default_factory=lambda: uuid.uuid4().hex, primary_key=True)
    name: str
    kind: str = Field(index=True)
    spec: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    state: str = Field(default="queued", index=True)
    priority: int = 50
    submitted_at: float = Field(default_factory=time.time)


class UsualCreate(BaseModel):
    """The body."""

    spec: dict[str, Any]
    priority: int = 50


@queue.task(name="usual.run")
def run(job_id: str) -> None:
    """The task; nobody runs it here."""


def get_session() -> Iterator[Session]:
    """A session per request."""
    with Session(engine) as session:
        yield session


SQLModel.metadata.create_all(engine)
app = FastAPI()


@app.get("/healthz")
def is_alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@app.post("/v1/jobs", status_code=202)
def create_job(body: UsualCreate, session: Annotated[Session, Depends(get_session)]) -> UsualJob:
    """Insert, commit, refresh, send."""
    return insert_and_send(session, body.spec, body.priority)


def insert_and_send(session: Session, spec: dict[str, Any], priority: int) -> UsualJob:
    """What every tutorial does."""
    job = UsualJob(name=spec["name"], kind=spec["kind"], spec=spec, priority=priority)
    session.add(job)
    session.commit()
    session.refresh(job)
    run.delay(job.id)
    return job


def main(number: int) -> None:
    """Insert and send in a loop."""
    spec = json.loads(sys.stdin.read())["spec"]
    with Session(engine) as session:
        insert_and_send(session, spec, 50)  # the first connects
        started, used = time.perf_counter(), time.process_time()
        for _ in range(number):
            insert_and_send(session, spec, 50)
        seconds = time.perf_counter() - started
        print(json.dumps({"per_second": number / seconds, "cpu_us": 1e6 * (time.process_time() - used) / number}))


if __name__ == "__main__":
    main(int(sys.argv[1]))

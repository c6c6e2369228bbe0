"""One job's life on a throw-away database, played before any real one.

The first time a process maps tables and compiles statements costs some 100 ms. A warm parent plays it once, so that the
runners it forks have it behind them.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from sqlmodel import SQLModel

from modelyard.domain import tables  # noqa: F401 - all of them must be known to be created
from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import claim, finish, own, renew
from modelyard.domain.jobs.recording import Batch, record
from modelyard.domain.jobs.repository import list_resumable
from modelyard.domain.jobs.submission import JobRequest, submit
from modelyard.domain.jobs.tables import Job
from modelyard.domain.projects.repository import get_or_create_project
from modelyard.domain.specs import parse_spec
from modelyard.kit.database import Database
from modelyard.kit.logs import set_up_logs
from modelyard.kit.settings import get_settings
from modelyard.workers.engine.handover import Handover
from modelyard.workers.engine.orders import Papers, read_papers, write_papers
from modelyard.workers.runner.inputs import locate_inputs
from modelyard.workers.runner.lease import Lease
from modelyard.workers.runner.time_limit import find_time_left

LEASE_SECONDS = 60.0


def rehearse() -> None:
    """Submit, claim, prepare, record and finish a job that does nothing."""
    with tempfile.TemporaryDirectory(prefix="modelyard-rehearsal-") as folder:
        database = Database(f"sqlite:///{Path(folder) / 'rehearsal.db'}")
        SQLModel.metadata.create_all(database.engine)
        try:
            _play(database)
        finally:
            database.dispose()  # no child may use a connection of its parent


def rehearse_start() -> None:
    """Do what a runner does before its ranks begin, for nothing.

    A forked process pays for every page of memory it writes to for the first time: here, while nobody waits for it.
    """
    set_up_logs(get_settings().log_level)
    get_settings.cache_clear()
    job: dict[str, Any] = {"id": "job_0"}
    papers = read_papers(write_papers(Papers(dict(os.environ), Handover(Job(**job), {}, 0.0).to_document())))
    Handover.from_document(papers.handover or {})
    Database(f"sqlite:///{os.devnull}").dispose()  # opens nothing
    Lease(lambda: None, LEASE_SECONDS, lambda: None)


def _play(database: Database) -> None:
    request = JobRequest(parse_spec({"kind": "import", "name": "none", "source": {"package": "none", "file": "none"}}))
    with database.write() as session:
        queue = submit(session, get_or_create_project(session, "rehearsal").id, request).queue
    with database.write() as session:
        job = claim(session, queue, "rehearsal", ["cpu-0"], LEASE_SECONDS)
    assert job is not None
    with database.write() as session:
        renew(session, job.id, job.attempt, LEASE_SECONDS)
    with database.write() as session:
        locate_inputs(session, own(session, job.id, job.attempt).inputs)
    with database.read() as session:
        list_resumable(session, job.id)
        find_time_left(session, job)
    events = [
        {"type": "progress", "at": 0.0, "fraction": 0.5, "message": ""},
        {"type": "metric", "at": 0.0, "step": 1, "values": {}},
    ]
    with database.write() as session:
        record(session, job.id, job.attempt, Batch(events, 1, [(0, "a line\n")]), 0.0)
    with database.write() as session:
        finish(session, job.id, job.attempt, Outcome.SUCCEEDED)

"""Lists, waiting lines and look-ups find their rows by an index, however many jobs are over."""

from collections.abc import Callable
from typing import Any

import pytest
from factories import Factory, request_of, write
from sqlalchemy import insert, text, update
from sqlmodel import Session, col
from statement_plans import explain, statements

from modelyard.domain.jobs.curves import newest_point
from modelyard.domain.jobs.repository import (
    find_newer,
    list_claimable,
    list_jobs,
    list_metrics,
    list_unrung,
    list_with_fingerprint,
    newest_events,
)
from modelyard.domain.jobs.retention import list_unjudged
from modelyard.domain.jobs.submission import Submission, submit_many
from modelyard.domain.jobs.tables import Checkpoint, Job, JobEvent, MetricPoint
from modelyard.domain.jobs.tallies import count_claimable
from modelyard.kit.database import Database

JOBS = 600
WHOLE = ("SCAN job", "Seq Scan on job", "->  Seq Scan on job")
Look = Callable[[Session, str, str], Any]
LOOKS: dict[str, tuple[Look, str]] = {
    "all": (lambda session, project, _: list_jobs(session, project), "ix_job_project"),
    "a page": (lambda session, project, last: list_jobs(session, project, after=last), "ix_job_project"),
    "a state": (lambda session, project, _: list_jobs(session, project, states=["failed"]), "ix_job_project_state"),
    "states": (lambda session, project, _: list_jobs(session, project, states=["failed", "queued"]), "ix_job_project_state"),
    "a kind": (lambda session, project, _: list_jobs(session, project, kind="prepare"), "ix_job_project_kind"),
    "a page of a kind": (
        lambda session, project, last: list_jobs(session, project, kind="prepare", after=last),
        "ix_job_project_kind",
    ),
    "a kind and state": (
        lambda session, project, _: list_jobs(session, project, kind="prepare", states=["failed"]),
        "ix_job_project_kind",
    ),
    "a kind and states": (
        lambda session, project, _: list_jobs(session, project, kind="prepare", states=["failed", "cancelled"]),
        "ix_job_project_kind",
    ),
    "waiting": (lambda session, *_: list_claimable(session, "prepare", 8), "ix_job_claim"),
    "without tickets": (lambda session, *_: list_unrung(session, "prepare", 8), "ix_job_claim"),
    "same outputs": (lambda session, project, _: list_with_fingerprint(session, project, "a"), "ix_job_fingerprint"),
    "tried again": (lambda session, _, last: find_newer(session, last), "ix_job_retry_of"),
}


@pytest.fixture
def crowd(factory: Factory) -> tuple[Database, str, str]:
    """Jobs of two projects and kinds, a third of them waiting; the second project and the last of its waiting jobs."""
    ids: list[str] = []
    for project in ("a", "b"):
        made = write(factory.database, submit_many, [[Submission(factory.project(project), request_of())] * JOBS])
        ids += [row["id"] for row in made[0]]
    with factory.database.engine.begin() as connection:
        for number, state in enumerate(("failed", "succeeded")):
            connection.execute(update(Job).where(col(Job.id).in_(ids[number::3])).values(state=state))
        connection.execute(update(Job).where(col(Job.id).in_(ids[::4])).values(kind="prepare"))
        connection.execute(text("ANALYZE"))
    return factory.database, factory.project("b"), ids[-1]


def test_checkpoints_kept_for_ever_are_not_looked_at_again(crowd: tuple[Database, str, str]) -> None:
    database, _, job_id = crowd
    values = {"job_id": job_id, "attempt": 1, "artifact_key": "a", "sha256": "0", "bytes": 1, "metrics": {}, "created_at": 1.0}
    rows = [{**values, "id": f"ckpt_{step}", "step": step, "is_kept": step > 3} for step in range(1000)]
    with database.engine.begin() as connection:
        connection.execute(insert(Checkpoint), rows)
        connection.execute(text("ANALYZE"))
    with statements(database) as seen, database.read() as session:
        list_unjudged(session, 2.0)
    plan = [step for each in seen for step in explain(database, *each)]
    assert [step for step in plan if "ix_checkpoint_unjudged" in step], plan


def test_those_that_back_off_are_found_among_all_that_wait(crowd: tuple[Database, str, str]) -> None:
    with statements(crowd[0]) as seen, crowd[0].read() as session:
        count_claimable(session)
    plan = [step for each in seen if "FROM job " in each[0].replace("\n", " ") for step in explain(crowd[0], *each)]
    assert [step for step in plan if "ix_job_not_before" in step], plan
    assert [step for step in plan if "not_before>?" in step or "Index Cond: (not_before >" in step], plan


POINT_LOOKS: dict[str, Callable[[Session, str], Any]] = {
    "all": lambda session, job_id: list_metrics(session, job_id, limit=20),
    "of a name": lambda session, job_id: list_metrics(session, job_id, "loss", limit=20),
    "the newest": newest_point,
}


def test_points_of_one_job_among_those_of_all(factory: Factory) -> None:
    requests = [Submission(factory.project_id, request_of())] * 20
    ids = [row["id"] for row in write(factory.database, submit_many, [requests])[0]]
    values = {"attempt": 1, "name": "loss", "value": 0.5, "at": 1.0}
    rows = [{**values, "job_id": job_id, "step": step} for job_id in ids for step in range(500)]
    with factory.database.engine.begin() as connection:
        connection.execute(insert(MetricPoint), rows)
        connection.execute(text("ANALYZE"))
    for name, look in POINT_LOOKS.items():
        with statements(factory.database) as seen, factory.database.read() as session:
            look(session, ids[0])
        plan = [step for each in seen for step in explain(factory.database, *each)]
        assert [step for step in plan if "ix_metric_point_job" in step], (name, plan)


def test_events_of_one_job_among_those_of_all(factory: Factory) -> None:
    requests = [Submission(factory.project_id, request_of())] * 20
    ids = [row["id"] for row in write(factory.database, submit_many, [requests])[0]]
    rows = [{"job_id": id_, "attempt": 1, "type": "phase", "data": {}, "created_at": 1.0} for id_ in ids for _ in range(200)]
    with factory.database.engine.begin() as connection:
        connection.execute(insert(JobEvent), rows)
        connection.execute(text("ANALYZE"))
        half = connection.execute(text("SELECT (min(id) + max(id)) / 2 FROM job_event")).scalar_one()
    for is_brief in (False, True):
        with statements(factory.database) as seen, factory.database.read() as session:
            newest_events(session, ids[0], half, 9, is_brief)
        plan = [step for each in seen for step in explain(factory.database, *each)]
        assert [step for step in plan if "ix_job_event_job" in step], (is_brief, plan)


def test_each_by_its_index(crowd: tuple[Database, str, str]) -> None:
    database, project, last = crowd
    plans = {}
    for name, (look, _) in LOOKS.items():
        with statements(database) as seen, database.read() as session:
            look(session, project, last)
        plans[name] = [step for each in seen if "FROM job" in each[0] for step in explain(database, *each)]
    unused = {name: plan for name, plan in plans.items() if not any(LOOKS[name][1] in step for step in plan)}
    through_all = {name: plan for name, plan in plans.items() if any(step.startswith(WHOLE) for step in plan)}
    assert (unused, through_all) == ({}, {})

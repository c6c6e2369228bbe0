"""Requests submitted together: equal ones are judged once, and each makes a job of its own; what differs makes another job."""

from dataclasses import replace
from typing import Any

import pytest
from factories import Factory, request_of, write
from sqlmodel import Session, select

from modelyard.domain.errors import UnknownReference
from modelyard.domain.jobs.queues import Shape
from modelyard.domain.jobs.starting import Start
from modelyard.domain.jobs.submission import Approval, JobRequest, Row, Submission, submit_many
from modelyard.domain.jobs.tables import Checkpoint, Job, JobEvent
from modelyard.domain.specs import parse_spec

PLAIN = request_of("pretrain")
OTHERS: dict[str, Any] = {
    "spec": parse_spec({"kind": "pretrain", "name": "bard", "dataset": "corpus", "steps": 7}),
    "name": "another",
    "priority": 51,
    "shape": Shape(2),
    "max_attempts": 2,
    "preemptible": True,
    "time_limit_seconds": 60.0,
    "start_at": 4e9,
    "needs_approval": True,
    "retry_of": "job_earlier",
    "resume_from": "ckpt_earlier",
    "start": Start("ckpt_earlier", "job_earlier", 5),
    "reproduces": "job_earlier",
    "approval": Approval(1.5, None),
    "avoid_hosts": ["gpu-7"],
    "is_probe": True,
    "pause_at_step": 3,
    "inputs": {"dataset": {"type": "dataset", "id": "ds_earlier", "name": "corpus", "version": 1, "sha256": "x"}},
}
"""A field of a request -> another value than the plain one has."""
PER_JOB = {"id", "submitted_at", "order_key", "queued_at"}


def submit_together(factory: Factory, *requests: JobRequest) -> list[Row]:
    """Submit requests in one transaction, as one group."""
    (made,) = write(factory.database, submit_many, [[Submission(factory.project_id, each) for each in requests]])
    assert isinstance(made, list), made
    return made


def save_at_step_5(session: Session, job_id: str) -> None:
    """Record the checkpoint `resume_from` names."""
    session.add(
        Checkpoint(id="ckpt_earlier", job_id=job_id, attempt=1, step=5, artifact_key="none", sha256="", bytes=0, created_at=0.0)
    )


def without_times(job: Job) -> dict[str, Any]:
    """A job without what differs from job to job."""
    return job.model_dump(exclude=PER_JOB)


def test_the_table_names_every_field() -> None:
    assert set(OTHERS) == set(JobRequest.__dataclass_fields__)
    assert all(getattr(PLAIN, name) != value for name, value in OTHERS.items())


def test_equal_ones_are_jobs_of_their_own(factory: Factory) -> None:
    factory.registered()
    rows = submit_together(factory, PLAIN, request_of("pretrain"), PLAIN)
    jobs = factory.find(select(Job).order_by(Job.id))  # type: ignore[arg-type]
    assert [job.id for job in jobs] == [row["id"] for row in rows]
    assert len({job.id for job in jobs}) == 3
    assert without_times(jobs[0]) == without_times(jobs[1]) == without_times(jobs[2])
    events = factory.find(select(JobEvent).order_by(JobEvent.id))  # type: ignore[arg-type]
    assert [(event.job_id, event.data) for event in events] == [(job.id, {"state": "queued", "reason": None}) for job in jobs]


@pytest.mark.parametrize("field", OTHERS)
def test_what_differs_is_what_it_would_be_alone(factory: Factory, field: str) -> None:
    factory.registered()
    value = factory.job("pretrain").id if field in {"retry_of", "reproduces"} else OTHERS[field]
    if field == "resume_from":
        write(factory.database, save_at_step_5, factory.job("pretrain").id)
    different = replace(PLAIN, **{field: value})
    plain, together, _ = submit_together(factory, PLAIN, different, PLAIN)
    (alone,) = submit_together(factory, different)
    jobs = {job.id: job for job in factory.find(select(Job))}
    assert without_times(jobs[together["id"]]) == without_times(jobs[alone["id"]])
    assert without_times(jobs[together["id"]]) != without_times(jobs[plain["id"]])


def test_projects_do_not_share(factory: Factory) -> None:
    factory.registered()
    theirs = factory.registered(content="b", project="theirs")
    projects = [factory.project(name) for name in ("default", "theirs", "without any")]
    groups = [[Submission(project, PLAIN)] for project in projects]
    mine, other, refused = write(factory.database, submit_many, groups)
    assert mine[0]["inputs"]["dataset"]["id"] != theirs.id == other[0]["inputs"]["dataset"]["id"]
    assert isinstance(refused, UnknownReference)

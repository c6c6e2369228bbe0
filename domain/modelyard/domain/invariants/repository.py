"""The rows the checks ask for, a bounded number at a time."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, literal, union_all
from sqlmodel import Session, col, select

from modelyard.domain.invariants.checks import find_unreadable
from modelyard.domain.invariants.facts import AttemptFacts, JobFacts, Page, SeatFacts, Violation
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.repository import list_claimable
from modelyard.domain.jobs.tables import Attempt, Checkpoint, Job, JobTally, Seat
from modelyard.domain.registry.tables import TABLES

PAGE_JOBS = 500
"""Jobs per transaction: none stays open for long."""
_COLUMNS = (Job.id, Job.kind, Job.state, Job.attempt, Job.reason, Job.lease_expires_at, Job.finished_at, Job.outputs)


def list_jobs(session: Session, after: str, only: Sequence[str] | None = None) -> Page:
    """The next page of jobs by id, with their attempts and seats; `only`: of these ids."""
    query = select(*_COLUMNS).where(col(Job.id) > after).order_by(col(Job.id)).limit(PAGE_JOBS)  # type: ignore[call-overload]
    rows = session.exec(query if only is None else query.where(col(Job.id).in_(only))).all()
    faults = {row.id: fault for row in rows if (fault := find_unreadable(row.state, row.outputs)) is not None}
    unreadable = [Violation("rows_can_be_read", id_, f"job {id_} {fault}") for id_, fault in faults.items()]
    ids = [row.id for row in rows if row.id not in faults]
    attempts, seats = _attempts(session, ids), _seats(session, ids)
    jobs = [
        JobFacts(**{**row._mapping, "state": JobState(row.state)}, attempts=tuple(attempts[row.id]), seats=tuple(seats[row.id]))
        for row in rows
        if row.id not in faults
    ]
    return Page(jobs, unreadable, rows[-1].id if rows else None)


def _attempts(session: Session, ids: Sequence[str]) -> dict[str, list[AttemptFacts]]:
    columns = (Attempt.job_id, Attempt.seq, Attempt.started_at, Attempt.finished_at, Attempt.outcome)
    query = select(*columns).where(col(Attempt.job_id).in_(ids)).order_by(col(Attempt.seq))  # type: ignore[call-overload]
    found = defaultdict(list)
    for job_id, *values in session.exec(query).all():
        found[job_id].append(AttemptFacts(*values))
    return found


def _seats(session: Session, ids: Sequence[str]) -> dict[str, list[SeatFacts]]:
    columns: tuple[Any, ...] = (Seat.job_id, Seat.attempt, Seat.node_rank, Seat.lease_expires_at)
    found = defaultdict(list)
    for job_id, *values in session.exec(select(*columns).where(col(Seat.job_id).in_(ids), Seat.state != "left")).all():
        found[job_id].append(SeatFacts(*values))
    return found


def find_artifacts(session: Session, jobs: Sequence[JobFacts]) -> dict[tuple[str, str], str | None]:
    """Where the outputs and checkpoints of jobs are stored: (job, what) -> key, None for an output nobody registered."""
    found: dict[tuple[str, str], str | None] = {}
    for job in jobs:
        for name, output in job.outputs.items():
            if output["type"] in TABLES:
                row = session.get(TABLES[output["type"]], output["id"])
                found[job.id, f"output {name}"] = row.artifact_key if row else None
    mine = col(Checkpoint.job_id).in_([job.id for job in jobs])
    checkpoints = select(Checkpoint).where(mine, col(Checkpoint.removed_at).is_(None))
    for each in session.exec(checkpoints).all():
        found[each.job_id, f"checkpoint of step {each.step} of attempt {each.attempt}"] = each.artifact_key
    return found


def oldest_claimable(session: Session, queue: str) -> str | None:
    """The job of a queue that has waited longest for its turn."""
    return next((job.id for job in list_claimable(session, queue, 1)), None)


def compare_tallies(session: Session) -> dict[tuple[str, str, str], tuple[int, int]]:
    """(project, queue, state) -> (jobs counted, jobs by the tally), where these differ."""
    job: Any = (Job.project_id, Job.queue, Job.state, func.count(), literal(0))
    tally: Any = (JobTally.project_id, JobTally.queue, JobTally.state, literal(0), func.sum(JobTally.jobs))
    # One statement sees one moment on both databases.
    both = union_all(select(*job).group_by(*job[:3]), select(*tally).group_by(*tally[:3]))
    found: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for project_id, queue, state, *numbers in session.execute(both).all():
        place = found[project_id, queue, state]
        place[0], place[1] = place[0] + int(numbers[0]), place[1] + int(numbers[1])
    return {place: (count, tally) for place, (count, tally) in found.items() if count != tally}

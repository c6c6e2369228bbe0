"""Checkpoints one by one: finding, judging and removing them. Whoever removes some has locked their job's row."""

from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, update
from sqlmodel import Session, col, select

from modelyard.domain.errors import Conflict, NotFound
from modelyard.domain.jobs.keeping import Keep, Saved, choose_surplus, rank, say_why_kept
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.ownership import add_event
from modelyard.domain.jobs.repository import find_job, list_checkpoints, list_resumable, list_tries
from modelyard.domain.jobs.tables import Attempt, Checkpoint, Job
from modelyard.domain.specs.optimization import CheckpointsSpec
from modelyard.kit.database import database_now


@dataclass(frozen=True)
class CheckpointView:
    """A checkpoint, and how it stands among those of its job."""

    checkpoint: Checkpoint
    is_newest: bool
    is_best: bool
    """By the metric the job's spec names."""
    kept_for: list[Keep]
    """Empty for one that nobody asked to keep: it goes when the job stores the next one, or later by age."""
    needed_by: list[str]
    """Open jobs that begin at it."""


class CheckpointInUse(Conflict):
    """The checkpoint is needed; the sentence says by whom."""

    code = "checkpoint_in_use"

    def __init__(self, checkpoint: Checkpoint, why: str) -> None:
        super().__init__(
            f"Checkpoint {checkpoint.id} (step {checkpoint.step} of job {checkpoint.job_id}) {why}",
            field="checkpoint_id",
            value=checkpoint.id,
        )


def get_checkpoint_or_raise(session: Session, project_id: str, checkpoint_id: str) -> tuple[Checkpoint, Job]:
    """A checkpoint that may still be read, and its job. Raises `NotFound`, also for one of another project."""
    checkpoint = session.get(Checkpoint, checkpoint_id)
    job = find_job(session, checkpoint.job_id) if checkpoint is not None else None
    if checkpoint is None or job is None or job.project_id != project_id or checkpoint.removed_at is not None:
        raise NotFound(
            f"There is no checkpoint {checkpoint_id} in this project, or it was removed; GET /v1/jobs/{{id}}/checkpoints lists "
            "those of a job",
            field="checkpoint_id",
            value=checkpoint_id,
        )
    return checkpoint, job


def list_views(session: Session, job: Job) -> list[CheckpointView]:
    """A job's checkpoints, newest first, each with what speaks for it."""
    rows, wanted = list_checkpoints(session, job.id), wanted_of(job)
    needed = list_needed(session, job.id)
    saved = [_as_saved(row, needed) for row in rows]
    kept, best = say_why_kept(saved, wanted), rank(saved, wanted.metric)[:1]
    return [
        CheckpointView(row, place == 0, row.id in {each.id for each in best}, kept[row.id], needed.get(row.id, []))
        for place, row in enumerate(rows)
    ]


def get_view_or_raise(session: Session, project_id: str, checkpoint_id: str) -> CheckpointView:
    """One checkpoint among those of its job. Raises `NotFound`."""
    checkpoint, job = get_checkpoint_or_raise(session, project_id, checkpoint_id)
    return next(view for view in list_views(session, job) if view.checkpoint.id == checkpoint.id)


def wanted_of(job: Job) -> CheckpointsSpec:
    """What the job's spec says about keeping checkpoints."""
    return CheckpointsSpec.model_validate(job.spec.get("checkpoints", {}))


def list_needed(session: Session, job_id: str) -> dict[str, list[str]]:
    """Which checkpoints of a job open jobs begin at: checkpoint -> those jobs."""
    found: dict[str, list[str]] = {}
    query = select(Job.resume_from, Job.id).where(Job.resume_from_job == job_id, col(Job.finished_at).is_(None))
    for checkpoint_id, user in session.exec(query.order_by(Job.id)).all():
        found.setdefault(cast(str, checkpoint_id), []).append(user)
    return found


def forget_surplus(session: Session, job: Job) -> list[Checkpoint]:
    """Delete the rows of what the job's spec does not ask to keep, and nobody needs; return them: their files go next.

    The caller owns the job in this transaction, so nobody begins at one of them meanwhile.
    """
    checkpoints = {each.id: each for each in list_checkpoints(session, job.id)}
    needed = list_needed(session, job.id)
    saved = [_as_saved(each, needed) for each in checkpoints.values()]
    surplus = [checkpoints[id_] for id_ in choose_surplus(saved, wanted_of(job))]
    for old in surplus:
        session.delete(old)
    return surplus


def remove(session: Session, checkpoint: Checkpoint, job: Job) -> None:
    """Let nobody read a checkpoint from now on; its files go soon after. The caller has locked the job's row.

    Raises `CheckpointInUse`, and `NotFound` if somebody else removed it meanwhile.
    """
    why = _why_needed(session, checkpoint, job)
    if why is not None:
        raise CheckpointInUse(checkpoint, why)
    mine = (col(Checkpoint.id) == checkpoint.id, col(Checkpoint.removed_at).is_(None))
    removed = session.execute(update(Checkpoint).where(*mine).values(removed_at=database_now()))
    if cast(CursorResult[Any], removed).rowcount == 0:
        raise NotFound(f"Checkpoint {checkpoint.id} was removed just now", field="checkpoint_id", value=checkpoint.id)
    data = {"steps": [checkpoint.step], "bytes": checkpoint.bytes}
    add_event(session, job.id, job.attempt, "checkpoints_removed", data)


def _why_needed(session: Session, checkpoint: Checkpoint, job: Job) -> str | None:
    users = list_needed(session, job.id).get(checkpoint.id)
    if users:
        return f"is where job {users[0]} begins; let that job end first, or cancel it"
    tries = list_tries(session, job)
    reads = (Attempt.resumed_from == checkpoint.id, col(Attempt.finished_at).is_(None))
    reader = session.exec(select(Attempt.job_id).where(col(Attempt.job_id).in_([each.id for each in tries]), *reads)).first()
    if reader is not None:
        return f"is what the running attempt of job {reader} continued from; pause or cancel that job first"
    for each in tries:
        if JobState(each.state).is_finished():
            continue
        good = [found.checkpoint.id for found in list_resumable(session, each.id) if found.checkpoint.damage is None]
        if good == [checkpoint.id]:
            return f"is the only good one job {each.id}, which is {each.state}, can go on from; cancel that job first"
    return None


def note_look(session: Session, checkpoint: Checkpoint, damage: str | None) -> None:
    """Write down what a look at every stored byte came to, unless the checkpoint was removed meanwhile."""
    values: dict[str, Any] = {"damage": damage} if damage else {"damage": None, "verified_at": database_now()}
    session.execute(update(Checkpoint).where(col(Checkpoint.id) == checkpoint.id).values(**values))


def _as_saved(row: Checkpoint, needed: dict[str, list[str]]) -> Saved:
    return Saved(row.id, row.metrics, row.id in needed, row.damage is None)

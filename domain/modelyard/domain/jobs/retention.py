"""What is kept of jobs that have been over for long: decisions over plain data, and what they need from the database."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, delete, exists, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from modelyard.domain.jobs.checkpoints import list_needed, list_views
from modelyard.domain.jobs.lifecycle import FINISHED, JobState
from modelyard.domain.jobs.ownership import add_event
from modelyard.domain.jobs.repository import find_job, list_tries
from modelyard.domain.jobs.tables import REMOVED, UNJUDGED, Checkpoint, Job
from modelyard.kit.database import database_now

JUDGED_PER_LOOK = 200


@dataclass(frozen=True)
class Ending:
    """How a job stands."""

    state: str
    finished_at: float | None


def is_long_over(endings: Sequence[Ending], before: float) -> bool:
    """Whether a job, and each that tries it again and may go on from its checkpoints, ended before a moment. Pure."""
    return all(
        JobState(each.state).is_finished() and each.finished_at is not None and each.finished_at < before for each in endings
    )


def list_unjudged(session: Session, before: float) -> Sequence[str]:
    """Jobs that ended before a moment and have checkpoints nobody has judged since, those with the oldest first."""
    again = aliased(Job)
    is_open = col(again.finished_at).is_(None)
    is_tried_again = exists().where(col(again.retry_of) == col(Job.id), is_open | (col(again.finished_at) >= before))
    query = select(Checkpoint.job_id).join(Job, col(Job.id) == col(Checkpoint.job_id))
    user = aliased(Job)
    is_needed = exists().where(col(user.resume_from_job) == col(Job.id), col(user.finished_at).is_(None))
    over = (UNJUDGED, col(Checkpoint.created_at) < before, col(Job.finished_at) < before, ~is_tried_again, ~is_needed)
    rows = session.exec(query.where(*over).order_by(col(Checkpoint.created_at), col(Checkpoint.id)).limit(JUDGED_PER_LOOK)).all()
    return list(dict.fromkeys(rows))


def judge_checkpoints(session: Session, job_id: str, before: float) -> None:
    """Keep the newest and the best checkpoint of a job that is long over; from now on nobody reads the others.

    The job stays locked: whoever tries it again, or begins at one of them, does so before, and then they stay, or after.
    """
    job = find_job(session, job_id, for_update=True)
    if job is None or job.stop_requested == "discarded" or not is_long_over(_list_endings(session, job), before):
        return
    if list_needed(session, job_id):
        return
    views = list_views(session, job)
    kept = [each.checkpoint for each in views if each.is_newest or each.is_best]
    surplus = [each.checkpoint for each in views if not (each.is_newest or each.is_best)]
    for each in kept:
        each.is_kept = True
    session.flush()
    if surplus:
        mine = (col(Checkpoint.id).in_([each.id for each in surplus]), col(Checkpoint.removed_at).is_(None))
        session.execute(update(Checkpoint).where(*mine).values(removed_at=database_now()))
        data = {"steps": [each.step for each in surplus], "bytes": sum(each.bytes for each in surplus)}
        data |= {"kept_step": kept[0].step, "kept_steps": [each.step for each in kept]}
        add_event(session, job_id, job.attempt, "checkpoints_removed", data)


def _list_endings(session: Session, job: Job) -> list[Ending]:
    return [Ending(each.state, each.finished_at) for each in list_tries(session, job)]


def list_with_removed(session: Session) -> Sequence[str]:
    """Jobs with checkpoints that nobody reads any more and whose files may still be there."""
    query = select(Checkpoint.job_id).where(REMOVED).order_by(col(Checkpoint.removed_at), col(Checkpoint.id))
    return list(dict.fromkeys(session.exec(query.limit(JUDGED_PER_LOOK)).all()))


def list_removed(session: Session, job_id: str) -> Sequence[str]:
    """Keys of a job's checkpoints that nobody reads any more and whose files may still be there."""
    removed = (Checkpoint.job_id == job_id, col(Checkpoint.removed_at).is_not(None))
    return session.exec(select(Checkpoint.artifact_key).where(*removed)).all()


def forget_removed(session: Session, job_id: str, keys: Collection[str]) -> None:
    """Delete the rows of checkpoints whose files are gone, by their keys: more may have been given up meanwhile."""
    removed = (col(Checkpoint.job_id) == job_id, col(Checkpoint.removed_at).is_not(None), col(Checkpoint.artifact_key).in_(keys))
    session.execute(delete(Checkpoint).where(*removed))


def list_long_over(session: Session, job_ids: Collection[str], before: float) -> Sequence[str]:
    """Which of these jobs ended before a moment."""
    return session.exec(select(Job.id).where(col(Job.id).in_(job_ids), *_over(before))).all()


def note_folder_removed(session: Session, job_id: str, host: str, before: float) -> bool:
    """Record that a machine is about to remove a job's run folder; False if the job did not end before that moment."""
    mine = update(Job).where(col(Job.id) == job_id, *_over(before)).values(attempt=Job.attempt)
    if cast(CursorResult[Any], session.execute(mine)).rowcount == 0:
        return False
    job = cast(Job, find_job(session, job_id))
    add_event(session, job_id, job.attempt, "run_folder_removed", {"host": host})
    return True


def _over(before: float) -> tuple[Any, ...]:
    return col(Job.state).in_(FINISHED), col(Job.finished_at) < before

"""Creating jobs together: what several requests ask for at once is written in one transaction, each request all or nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from modelyard.domain.errors import DomainError
from modelyard.domain.jobs.submission import JobRequest, Row, Submission, submit_many
from modelyard.domain.jobs.tables import Job
from modelyard.domain.projects.repository import check_same_request, remember_all, remembered_requests
from modelyard.kit.commits import GroupCommit


@dataclass(frozen=True)
class Asked:
    """One request: jobs to be created together."""

    project_id: str
    jobs: Sequence[JobRequest]
    key: str | None = None
    """Idempotency-Key."""
    fingerprint: str = ""
    """SHA-256 of the request."""


@dataclass(frozen=True)
class Created:
    """What became of a request."""

    rows: Sequence[Row]
    is_new: bool
    """False: the same request came before, and the rows are as they are now."""


JobWriter = GroupCommit[Asked, Created]


def create_jobs(session: Session, asked: Sequence[Asked]) -> list[Created | Exception]:
    """Write what several requests ask for. One that cannot be had is answered by its error and leaves nothing.

    The same Idempotency-Key twice among them breaks the table's key; tried one by one, the second then finds the first.
    """
    known = remembered_requests(session, {(each.project_id, each.key) for each in asked if each.key is not None})
    new = [each for each in asked if (each.project_id, each.key) not in known]
    made = iter(submit_many(session, [[Submission(each.project_id, job) for job in each.jobs] for each in new]))
    answers: list[Created | Exception] = []
    keyed: list[tuple[str, str, str, str]] = []
    for each in asked:
        if each.key is not None and (each.project_id, each.key) in known:
            answers.append(_repeat(session, each, each.key, *known[each.project_id, each.key]))
            continue
        rows = next(made)
        answers.append(rows if isinstance(rows, DomainError) else Created(rows, True))
        if each.key is not None and not isinstance(rows, DomainError):
            keyed.append((each.project_id, each.key, each.fingerprint, ",".join(row["id"] for row in rows)))
    remember_all(session, keyed)
    return answers


def _repeat(session: Session, asked: Asked, key: str, fingerprint: str, made: str) -> Created | Exception:
    try:
        check_same_request(key, fingerprint, asked.fingerprint)
    except DomainError as error:
        return error
    ids = made.split(",")
    jobs = {job.id: job.model_dump() for job in session.exec(select(Job).where(col(Job.id).in_(ids)))}
    return Created([jobs[id_] for id_ in ids], False)

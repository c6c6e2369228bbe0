"""Entries of the ledger as a test wants them, with the days they add up to."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import delete
from sqlmodel import Session, col, select

from modelyard.domain.jobs.tables import Job
from modelyard.domain.usage.ledger import book
from modelyard.domain.usage.tables import UsageDay, UsageEntry


def rebook(session: Session, change: Callable[[UsageEntry], dict[str, Any]]) -> None:
    """Write the ledger anew, with changed entries."""
    query = select(UsageEntry, Job.kind).join(Job, col(Job.id) == col(UsageEntry.job_id))
    known = [({**entry.model_dump(), **change(entry)}, kind) for entry, kind in session.exec(query.order_by(col(Job.id))).all()]
    session.expunge_all()
    session.execute(delete(UsageDay))
    session.execute(delete(UsageEntry))
    for values, kind in known:
        book(session, UsageEntry(**values), kind)

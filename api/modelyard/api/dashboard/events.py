"""What happened to a job, as lines of a list."""

from dataclasses import dataclass

from sqlmodel import Session

from modelyard.domain.jobs.narration import narrate
from modelyard.domain.jobs.repository import newest_events


@dataclass(frozen=True)
class EventLine:
    """One event in words."""

    id: int
    attempt: int
    at: float
    what: str
    why: str


def tell_newest(session: Session, job_id: str, before: int = 0, limit: int = 50) -> list[EventLine]:
    """The newest events, newest first, without what a recipe tells often; `before`: an id, 0 for all."""
    lines = []
    for event in newest_events(session, job_id, before, limit, is_brief=True):
        told = narrate(event.type, event.data)
        lines.append(EventLine(event.id or 0, event.attempt, event.created_at, told.what, told.why))
    return lines

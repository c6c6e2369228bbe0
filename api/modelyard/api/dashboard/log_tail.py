"""The end of a job's log, as lines."""

from dataclasses import dataclass

from sqlmodel import Session

from modelyard.domain.jobs.repository import newest_logs

LINES = 200
CHARACTERS_PER_LINE = 2000
"""A longer line is cut: one runaway line must not make the page unusable."""


@dataclass(frozen=True)
class LogLine:
    """One line of one rank."""

    attempt: int
    rank: int
    text: str


def read_tail(session: Session, job_id: str) -> list[LogLine]:
    """The last lines of all ranks and attempts in the order they came."""
    lines = [
        LogLine(chunk.attempt, chunk.rank, _cut(line))
        for chunk in newest_logs(session, job_id)
        for line in chunk.text.splitlines()[-LINES:]
    ]
    return lines[-LINES:]


def _cut(line: str) -> str:
    return line if len(line) <= CHARACTERS_PER_LINE else f"{line[:CHARACTERS_PER_LINE]} … ({len(line)} characters)"

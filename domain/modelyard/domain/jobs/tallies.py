"""How many jobs are in which state, without counting them: changes are appended with every move and added up later.

A sum over `job_tally` is right in every transaction: rows are appended in the transaction that moves the job, and adding up
replaces rows by their sum in one transaction. Appending waits for nobody, as updating one counter would.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert
from sqlmodel import Session, col, select

from modelyard.domain.jobs.lifecycle import ACTIVE, FINISHED, JobState
from modelyard.domain.jobs.tables import QUEUED, Job, JobTally
from modelyard.kit.database import read_clock
from modelyard.kit.rows import insert_rows

ADDED_UP_AT_ONCE = 10_000
"""Rows taken in one transaction: on SQLite nobody else writes meanwhile."""
_KEY: Any = (JobTally.project_id, JobTally.queue, JobTally.state)
_JOBS: Any = func.sum(JobTally.jobs)
_SLOTS: Any = func.sum(JobTally.slots)


@dataclass(frozen=True)
class Delta:
    """So many jobs more, or fewer, of a project in a queue and state, with the slots of all their nodes."""

    project_id: str
    queue: str
    state: str
    jobs: int
    slots: int


def delta_of(job: Job, state: str, jobs: int) -> Delta:
    """A job entering (1) or leaving (−1) a state."""
    return Delta(job.project_id, job.queue, str(state), jobs, jobs * job.slots * job.nodes)


def note_move(session: Session, job: Job, before: str, after: str) -> None:
    """Note that a job went from one state to another, in the transaction that moves it."""
    append(session, [delta_of(job, before, -1), delta_of(job, after, 1)])


def note_new(session: Session, rows: Iterable[dict[str, Any]]) -> None:
    """Note jobs just made, given as the values of their columns: one row per project, queue and state."""
    made = Counter((row["project_id"], row["queue"], str(row["state"]), row["slots"] * row["nodes"]) for row in rows)
    append(
        session, (Delta(project_id, queue, state, jobs, jobs * slots) for (project_id, queue, state, slots), jobs in made.items())
    )


def append(session: Session, deltas: Iterable[Delta]) -> None:
    """Append changes, added up by project, queue and state."""
    insert_rows(session, JobTally, sum_up((each.project_id, each.queue, each.state, each.jobs, each.slots) for each in deltas))


def sum_up(rows: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """One row per key of (project, queue, state, jobs, slots), those that cancel out left out. Pure."""
    sums: defaultdict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for project_id, queue, state, jobs, slots in rows:
        total = sums[project_id, queue, state]
        total[0], total[1] = total[0] + jobs, total[1] + slots
    return [
        {"project_id": project_id, "queue": queue, "state": state, "jobs": jobs, "slots": slots}
        for (project_id, queue, state), (jobs, slots) in sorted(sums.items())
        if jobs or slots
    ]


def needs_adding_up(session: Session) -> bool:
    """Whether some key has more than one row."""
    several = select(JobTally.project_id).group_by(*_KEY).having((func.count() > 1) | (_JOBS == 0)).limit(1)
    return session.exec(several).first() is not None


def add_up(session: Session) -> int:
    """Replace rows by their sums; return how many were taken. Only what this transaction deleted is summed, so that two
    leaders at once, or jobs moving meanwhile, change nothing."""
    oldest = select(JobTally.id).order_by(col(JobTally.id)).limit(ADDED_UP_AT_ONCE).with_for_update(skip_locked=True)
    taken = delete(JobTally).where(col(JobTally.id).in_(oldest)).returning(*_KEY, col(JobTally.jobs), col(JobTally.slots))
    rows = session.execute(taken, execution_options={"synchronize_session": False}).all()
    sums = sum_up(rows)
    if sums:
        session.execute(insert(JobTally), sums)
    return len(rows)


def count_claimable(session: Session) -> dict[str, int]:
    """Waiting jobs per queue that could be claimed now: what the number of tickets should be."""
    waiting = _sum_by_queue(session, JobState.QUEUED)
    # Counted here: GROUP BY would make the database go through the waiting jobs of each queue.
    # The clock as a number: PostgreSQL compares no index with a function that may answer differently for each row, and
    # takes a third of all that wait for later than a moment it does not see.
    now = read_clock(session)
    backing_off = Counter(session.exec(select(Job.queue).where(QUEUED, Job.not_before > now)).all())
    claimable = {queue: number - backing_off[queue] for queue, number in waiting.items()}
    return {queue: number for queue, number in claimable.items() if number > 0}


def has_open_jobs(session: Session) -> bool:
    """Whether any job is not finished."""
    is_open = col(JobTally.state).not_in(FINISHED)
    several = select(JobTally.state).where(is_open).group_by(col(JobTally.state)).having(_JOBS > 0).limit(1)
    return session.exec(several).first() is not None


def _sum_by_queue(session: Session, state: JobState) -> dict[str, int]:
    query = select(JobTally.queue, _JOBS).where(JobTally.state == state).group_by(col(JobTally.queue))
    return {queue: int(number) for queue, number in session.exec(query).all() if number}


@dataclass(frozen=True)
class Total:
    """So many jobs, and the slots they hold or ask for."""

    jobs: int
    slots: int


def total_by_state(session: Session, project_id: str) -> dict[str, Total]:
    """State -> jobs and slots of a project, states without jobs left out."""
    query = select(JobTally.state, _JOBS, _SLOTS).where(JobTally.project_id == project_id).group_by(col(JobTally.state))
    return {state: Total(int(jobs), int(slots)) for state, jobs, slots in session.exec(query).all() if jobs}


def count_by_state(session: Session, project_id: str) -> dict[str, int]:
    """State -> number of jobs of a project, states without jobs left out."""
    return {state: total.jobs for state, total in total_by_state(session, project_id).items()}


def count_by_queue(session: Session) -> dict[str, dict[str, int]]:
    """Queue -> state -> number of jobs that wait or run."""
    query = select(JobTally.queue, JobTally.state, _JOBS).where(col(JobTally.state).in_({JobState.QUEUED, *ACTIVE}))
    counts: dict[str, dict[str, int]] = {}
    for queue, state, number in session.exec(query.group_by(col(JobTally.queue), col(JobTally.state))).all():
        if number:
            counts.setdefault(queue, {})[state] = int(number)
    return counts

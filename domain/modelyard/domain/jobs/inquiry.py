"""Gathering what an explanation rests on: a handful of indexed queries, however long the line is."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import tuple_
from sqlmodel import Session, col, select

from modelyard.domain.jobs.allowances import read_quotas, read_use
from modelyard.domain.jobs.explanation import Explanation, explain
from modelyard.domain.jobs.gangs import describe_gang, view_workers
from modelyard.domain.jobs.lifecycle import ACTIVE, HeldReason, JobState
from modelyard.domain.jobs.prediction import Ahead, Occupied, Past, summarize
from modelyard.domain.jobs.queues import Shape, parse_queue
from modelyard.domain.jobs.repository import last_log_lines, list_attempts
from modelyard.domain.jobs.seats import list_lingering
from modelyard.domain.jobs.situation import Kept, Server, Situation
from modelyard.domain.jobs.tables import OWNED, QUEUED, Attempt, Job, JobEvent
from modelyard.domain.scheduling.gangs import count_room
from modelyard.domain.scheduling.quotas import why_held
from modelyard.domain.specs import KINDS
from modelyard.domain.workers.repository import SILENT_SECONDS
from modelyard.domain.workers.tables import Host, Reservation, Worker
from modelyard.kit.database import database_now, read_clock

NAMED = 5
"""So many jobs ahead, and so many that hold slots, are named."""
COUNTED = 500
"""The line is looked at so far."""
PAST_RUNS = 50
"""A kind's newest successes that count for how long one takes."""
RECENT_EVENTS = 50


def explain_job(session: Session, job: Job) -> Explanation:
    """Why a job is where it is, and what to do about it."""
    return explain(inquire(session, job))


def inquire(session: Session, job: Job) -> Situation:
    """Everything there is to say about a job now."""
    now = read_clock(session)
    attempts = list_attempts(session, job.id)
    if JobState(job.state) is JobState.QUEUED:
        return _look_around(session, job, attempts, now)
    if JobState(job.state).is_active():
        occupied = [_occupied(job, now)]
        return Situation(
            job,
            attempts,
            occupied=occupied,
            past=_past(session, {(job.project_id, job.kind)}),
            phase=_phase(session, job),
            now=now,
        )
    rank = attempts[-1].failing_rank if attempts else None
    lines, held_for = last_log_lines(session, job.id, job.attempt, rank=rank), _say_quota(session, job)
    return Situation(job, attempts, log_lines=lines, held_for=held_for, now=now)


def _say_quota(session: Session, job: Job) -> str | None:
    """What a job held for a quota waits for now: quotas and their use change, and thousands of held rows are not rewritten."""
    if job.reason != HeldReason.QUOTA:
        return None
    name, quotas = read_quotas(session, job.project_id)
    why = why_held(name, quotas, read_use(session, job.project_id, quotas), job.slots * job.nodes)
    return why or f"Project {name} has room again; the best of its held jobs queue up within seconds"


def _look_around(session: Session, job: Job, attempts: Sequence[Attempt], now: float) -> Situation:
    servers = _list_servers(session, job.queue)
    first, line = _list_first(session, job), _list_line(session, job)
    holders = _list_holders(session, servers)
    return Situation(
        job=job,
        attempts=attempts,
        ahead=first,
        line=[Ahead(kind, slots) for _, kind, slots in line[:COUNTED]],
        line_is_longer=len(line) > COUNTED,
        holders=holders[:NAMED],
        occupied=[_occupied(other, now) for other in holders],
        servers=servers,
        kept=_list_kept(session, servers),
        past=_past(
            session, {*((project, kind) for project, kind, _ in line), *((other.project_id, other.kind) for other in holders)}
        ),
        nodes_with_room=count_room(describe_gang(job, now), view_workers(session))[0] if job.nodes > 1 else 0,
        lingering=[seat.worker_id for seat in list_lingering(session, [job.id])] if job.nodes > 1 else [],
        now=now,
    )


def _list_servers(session: Session, queue: str) -> list[Server]:
    """Workers alive that could take a job of this queue, and why they do not, if they do not."""
    _, shape = parse_queue(queue)
    alive = (col(Worker.state) != "offline", col(Worker.heartbeat_at) > database_now() - SILENT_SECONDS)
    query = select(Worker, Host).join(Host, col(Host.name) == col(Worker.host), isouter=True).where(*alive)
    now = read_clock(session)
    found = ((worker, host, _count_lent(worker, shape)) for worker, host in session.exec(query.order_by(col(Worker.id))).all())
    return [Server(worker.id, lent, _refusal(worker, host, now)) for worker, host, lent in found if _serves(worker, queue, lent)]


def _serves(worker: Worker, queue: str, lent: int) -> bool:
    stage, shape = parse_queue(queue)
    return queue in worker.queues or (shape.nodes > 1 and stage in worker.stages and lent >= shape.slots)


def _count_lent(worker: Worker, shape: Shape) -> int:
    totals = {name: int(slots["total"]) for name, slots in worker.slots.items()}
    return sum(totals.values()) if shape.accelerator == "any" else totals.get(shape.accelerator, 0)


def _refusal(worker: Worker, host: Host | None, now: float) -> str | None:
    if host is not None and host.excluded_until is not None and host.excluded_until > now:
        return f"host {host.name} is excluded for {host.excluded_until - now:.0f} s more: {host.excluded_because}"
    return "it is being drained" if worker.drain_requested or worker.state == "draining" else None


def _list_first(session: Session, job: Job) -> Sequence[Job]:
    """The first of the waiting jobs of the same queue that go first."""
    jobs: Sequence[Job] = session.exec(_in_line(select(Job), job).limit(NAMED)).all()
    return jobs


def _list_line(session: Session, job: Job) -> Sequence[tuple[str, str, int]]:
    """Project, kind and slots of the jobs that go first, best first; one more than counts. Not whole rows: specs are long."""
    columns: Any = (Job.project_id, Job.kind, Job.slots)
    line: Sequence[tuple[str, str, int]] = session.exec(_in_line(select(*columns), job).limit(COUNTED + 1)).all()
    return line


def _in_line(query: Any, job: Job) -> Any:
    before = tuple_(col(Job.order_key), col(Job.id)) < (job.order_key, job.id)
    return query.where(Job.queue == job.queue, QUEUED, before).order_by(col(Job.order_key), col(Job.id))


def _list_holders(session: Session, servers: Sequence[Server]) -> Sequence[Job]:
    names = [server.worker_id for server in servers]
    query = select(Job).where(OWNED, col(Job.state).in_(ACTIVE), col(Job.worker_id).in_(names))
    return session.exec(query.order_by(col(Job.started_at))).all()


def _occupied(job: Job, now: float) -> Occupied:
    return Occupied(
        kind=job.kind,
        worker_id=job.worker_id or "",
        slots=job.slots,
        elapsed_seconds=now - (job.started_at or now),
        progress=job.progress,
        job_id=job.id,
        never_ends=KINDS[job.kind].is_service,
    )


def _list_kept(session: Session, servers: Sequence[Server]) -> list[Kept]:
    names = [server.worker_id for server in servers]
    query = (
        select(Reservation, Job)
        .join(Job, col(Job.id) == col(Reservation.job_id))
        .where(col(Reservation.worker_id).in_(names), Reservation.expires_at > database_now(), Job.state == JobState.QUEUED)
    )
    return [Kept(kept.worker_id, kept.slots, whose) for kept, whose in session.exec(query).all()]


def _past(session: Session, kinds: Iterable[tuple[str, str]]) -> Mapping[str, Past]:
    """How long each kind of a project took. Of another project's only these figures are shown, never a job."""
    found = {kind: summarize(_durations(session, project, kind)) for project, kind in kinds}
    return {kind: past for kind, past in found.items() if past is not None}


def _durations(session: Session, project_id: str, kind: str) -> list[float]:
    newest: Any = (
        select(Job.started_at, Job.finished_at)
        .where(Job.project_id == project_id, Job.kind == kind, Job.state == JobState.SUCCEEDED)
        .order_by(col(Job.id).desc())
        .limit(PAST_RUNS)
    )
    return [end - start for start, end in session.exec(newest).all() if start is not None and end is not None]


def _phase(session: Session, job: Job) -> str | None:
    query = select(JobEvent).where(JobEvent.job_id == job.id).order_by(col(JobEvent.id).desc()).limit(RECENT_EVENTS)
    events = session.exec(query).all()
    mine = (event.data for event in events if event.type == "phase" and event.attempt == job.attempt)
    return next((str(data.get("name") or data.get("phase")) for data in mine), None)

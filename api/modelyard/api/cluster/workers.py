"""Routes that show workers, drain them, and keep jobs away from their machines."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session

from modelyard.api.dependencies import Admin, PlatformDep, Reader
from modelyard.api.times import Time
from modelyard.domain.workers import hosts, repository
from modelyard.domain.workers.handing_over import list_busy
from modelyard.domain.workers.reservations import list_reservations
from modelyard.domain.workers.tables import Host, Reservation, Worker
from modelyard.kit.database import read_clock

router = APIRouter(prefix="/v1", tags=["cluster"])


class HostPublic(BaseModel):
    """A machine, and until when no job starts there."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    excluded_until: Time | None
    excluded_because: str | None


class WorkerPublic(BaseModel):
    """A worker."""

    id: str
    host: str
    pid: int
    stages: list[str]
    slots: dict[str, Any]
    queues: list[str]
    host_memory_bytes: int | None
    """Memory of its machine."""
    gpu_memory_bytes: int | None
    """Memory of the smallest GPU it lends."""
    state: str
    """`online`, `draining` while it hands over or ends its jobs, `drained` once it has none, or `offline`."""
    reserved: dict[str, int]
    """Accelerator -> slots kept free for jobs that waited long."""
    excluded_until: Time | None
    """No job starts on its host before this."""
    excluded_because: str | None
    started_at: Time
    heartbeat_at: Time


class WorkerList(BaseModel):
    """All workers heard of within a week."""

    data: list[WorkerPublic]


class Exclusion(BaseModel):
    """For how long no job starts on a host, and why."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"minutes": 60, "reason": "New GPU driver"}]})

    minutes: Annotated[float, Field(gt=0, le=525_600)]
    reason: Annotated[str, Field(min_length=1, max_length=500)]


@router.get("/workers")
def list_all_workers(platform: PlatformDep, caller: Reader) -> WorkerList:
    """Every worker, with what it lends, what is kept free there, and when it was last heard of."""
    with platform.database.read() as session:
        return WorkerList(data=show_workers(session))


@router.post("/workers/{worker_id}/drain", status_code=202)
def drain_worker(worker_id: str, platform: PlatformDep, caller: Admin) -> WorkerPublic:
    """Take no more jobs; running ones save and continue elsewhere. The worker stays up and idle until it is undrained."""
    with platform.database.write() as session:
        worker = repository.get_worker_or_raise(session, worker_id)
        repository.request_drain(session, worker)
        return _show(session, worker)[0]


@router.post("/workers/{worker_id}/undrain")
def undrain_worker(worker_id: str, platform: PlatformDep, caller: Admin) -> WorkerPublic:
    """Let a worker take jobs again."""
    with platform.database.write() as session:
        worker = repository.get_worker_or_raise(session, worker_id)
        repository.end_drain(session, worker)
        return _show(session, worker)[0]


@router.post("/hosts/{name}/exclude")
def exclude_host(name: str, body: Exclusion, platform: PlatformDep, caller: Admin) -> HostPublic:
    """Start no job on a machine for a while; jobs that run there go on."""
    with platform.database.write() as session:
        return HostPublic.model_validate(hosts.exclude(session, name, body.minutes * 60, body.reason))


@router.post("/hosts/{name}/include")
def include_host(name: str, platform: PlatformDep, caller: Admin) -> HostPublic:
    """End the exclusion of a machine; what happened there before is forgiven."""
    with platform.database.write() as session:
        hosts.include(session, name)
    return HostPublic(name=name, excluded_until=None, excluded_because=None)


def show_workers(session: Session) -> list[WorkerPublic]:
    """Every worker as clients see it, by name."""
    return _show(session, *repository.list_workers(session))


def _show(session: Session, *workers: Worker) -> list[WorkerPublic]:
    facts = _Facts(list_busy(session), list_reservations(session), hosts.list_excluded(session), read_clock(session))
    return [_show_one(worker, facts) for worker in workers]


@dataclass(frozen=True)
class _Facts:
    busy: frozenset[str]
    reservations: Sequence[Reservation]
    excluded: Mapping[str, Host]
    now: float


def _show_one(worker: Worker, facts: _Facts) -> WorkerPublic:
    state = "offline" if repository.is_offline(worker, facts.now) else worker.state
    if worker.drain_requested and state == "online":
        state = "draining" if worker.id in facts.busy else "drained"
    reserved: Counter[str] = Counter()
    for row in facts.reservations:
        if row.worker_id == worker.id:
            reserved[row.accelerator] += row.slots
    host = facts.excluded.get(worker.host)
    return WorkerPublic.model_validate(
        {
            **worker.model_dump(exclude={"drain_requested"}),
            "state": state,
            "reserved": dict(reserved),
            "excluded_until": host and host.excluded_until,
            "excluded_because": host and host.excluded_because,
        }
    )

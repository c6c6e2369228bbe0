"""What a worker must know beyond its own slots: may it take jobs, and which of its slots are kept for whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from modelyard.domain.jobs.lifecycle import ACTIVE, JobState
from modelyard.domain.jobs.tables import Job
from modelyard.domain.workers.repository import may_claim
from modelyard.domain.workers.tables import Reservation, Worker
from modelyard.kit.database import database_now


@dataclass(frozen=True)
class Kept:
    """Slots kept for a job of one queue."""

    queue: str
    accelerator: str
    slots: int


@dataclass(frozen=True)
class Outlook:
    """What others decided about a worker, as last read."""

    is_open: bool = True
    """False while it is drained or its host is excluded."""
    kept: Sequence[Kept] = ()

    def count_kept(self, accelerator: str, queue: str) -> int:
        """Slots of an accelerator that jobs of this queue must leave alone."""
        return sum(each.slots for each in self.kept if each.accelerator == accelerator and each.queue != queue)


def read_outlook(session: Session, worker_id: str, host: str) -> Outlook:
    """What holds for a worker now.

    Once a job runs, its reservation has done its work and is passed over; only a gang's lasts until each seat is taken.
    """
    query = (
        select(Reservation, Job.queue)
        .join(Worker, col(Worker.id) == Reservation.worker_id)
        .join(Job, col(Job.id) == Reservation.job_id)
        .where(Worker.host == host, Reservation.expires_at > database_now())
        .where((col(Job.state) == JobState.QUEUED) | ((col(Job.nodes) > 1) & col(Job.state).in_(ACTIVE)))
    )
    found = session.exec(query).all()
    others = {row.worker_id for row, _ in found} - {worker_id}
    shared = _find_sharing(session, worker_id, others) if others else set()
    kept = [
        Kept(queue, row.accelerator, row.slots)
        for row, queue in found
        if row.worker_id == worker_id or (row.accelerator == "gpu" and row.worker_id in shared)
    ]
    return Outlook(may_claim(session, worker_id), kept)


def _find_sharing(session: Session, worker_id: str, others: set[str]) -> set[str]:
    """Workers of the same machine that lend some of the same GPUs: what is kept on one is kept on all."""
    rows = session.exec(select(Worker.id, Worker.slots).where(col(Worker.id).in_({worker_id, *others}))).all()
    names = {id_: slot_names(slots, "gpu") for id_, slots in rows}
    return {other for other in others if names.get(other, frozenset()) & names.get(worker_id, frozenset())}


def slot_names(slots: Mapping[str, Any], accelerator: str) -> frozenset[str]:
    """Names of the slots a worker lends, from its row: `gpu-0`, `gpu-1`, …"""
    lent = slots.get(accelerator, {})
    return frozenset(lent.get("names") or (f"{accelerator}-{index}" for index in range(lent.get("total", 0))))

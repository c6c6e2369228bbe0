"""Gangs: jobs that need slots on several workers at the same moment. They get all of them or none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

ACCELERATORS = {"any": ("gpu", "cpu"), "gpu": ("gpu",), "cpu": ("cpu",)}
"""What a gang may use, best first; all its nodes use the same, for GPUs and CPUs do not talk to each other."""
MOST_NODES = 64
"""A gang writes this many leases a second into one database."""


@dataclass(frozen=True)
class WaitingGang:
    """A job that waits for `nodes` workers with `slots` free slots each."""

    job_id: str
    stage: str
    nodes: int
    slots: int
    accelerator: str = "any"
    priority: int = 50
    """Decides who may be displaced for it; in the order it is part of `order_key`."""
    order_key: float = 0.0
    """Smallest first."""
    set_back_seconds: float = 0.0
    """What fair share adds to the order key, because its project used more than the others that have gangs waiting."""
    waited_seconds: float = 0.0
    avoid_hosts: frozenset[str] = frozenset()
    """Machines where it hung or was lost: used only while there are not enough others."""


@dataclass(frozen=True)
class WorkerView:
    """What a worker lends, and how much of it is free."""

    id: str
    host: str
    stages: frozenset[str]
    total: Mapping[str, int]
    """Slots by accelerator, `cpu` and `gpu`."""
    free: Mapping[str, int]
    reserved: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Job -> accelerator -> free slots nobody else may take."""

    def room_for(self, job_id: str, accelerator: str) -> int:
        """Free slots, less those kept for other jobs."""
        kept = sum(slots.get(accelerator, 0) for other, slots in self.reserved.items() if other != job_id)
        return self.free.get(accelerator, 0) - kept


@dataclass(frozen=True)
class Placement:
    """Which workers a gang gets, in order of node rank; or which ones are kept free for it."""

    job_id: str
    accelerator: str
    worker_ids: tuple[str, ...]


def place(gangs: Sequence[WaitingGang], workers: Sequence[WorkerView]) -> list[Placement]:
    """Give gangs their workers, best gang first. A gang that lacks a single worker takes none, so no two hold half each."""
    taken: dict[tuple[str, str], int] = {}
    placements = []
    for gang in sorted(gangs, key=order_of):
        placement = _place_one(gang, workers, taken)
        if placement is not None:
            placements.append(placement)
            for worker_id in placement.worker_ids:
                key = (worker_id, placement.accelerator)
                taken[key] = taken.get(key, 0) + gang.slots
    return placements


def keep_free(gangs: Sequence[WaitingGang], workers: Sequence[WorkerView], after_seconds: float) -> list[Placement]:
    """Choose the workers whose slots are kept free, as they become so, for gangs that waited or displaced others.

    Who has all its workers kept goes on having them: else those who made room for it would have done so in vain. While nobody
    has, one gang gets them: the best that waited longer than `after_seconds` and could run at all. Each keeps all it needs, on
    workers kept for nobody else, so none waits for what another keeps.
    """
    ordered = sorted(gangs, key=order_of)
    kept = [placement for gang in ordered if (placement := _find_kept(gang, workers)) is not None]
    late = [gang for gang in ordered if gang.waited_seconds >= after_seconds]
    return kept or [placement for gang in late if (placement := _keep_for(gang, workers)) is not None][:1]


def _find_kept(gang: WaitingGang, workers: Sequence[WorkerView]) -> Placement | None:
    """The workers kept for a gang, if all of them are there and could still run it."""
    held = [(worker, accelerator) for worker in workers for accelerator in worker.reserved.get(gang.job_id, ())]
    able = [worker for worker, accelerator in held if _could_take(gang, worker, accelerator)]
    if len(able) < gang.nodes or len({accelerator for _, accelerator in held}) != 1:
        return None
    return Placement(gang.job_id, held[0][1], tuple(worker.id for worker in able))


def _keep_for(gang: WaitingGang, workers: Sequence[WorkerView]) -> Placement | None:
    for accelerator in ACCELERATORS[gang.accelerator]:
        able = [worker for worker in workers if _could_take(gang, worker, accelerator) and not _is_kept(worker, gang)]
        # Those kept already come first: else slots that became free would be given up again. Then the emptiest.
        able.sort(key=lambda worker: (gang.job_id not in worker.reserved, -worker.free.get(accelerator, 0), worker.id))
        chosen = choose_workers(gang, [(worker.id, worker.host) for worker in able], accelerator)
        if chosen is not None:
            return Placement(gang.job_id, accelerator, chosen)
    return None


def count_room(gang: WaitingGang, workers: Sequence[WorkerView]) -> tuple[int, int]:
    """How many workers have room for one node of a gang now, and how many could ever have it."""
    kinds = ACCELERATORS[gang.accelerator]
    able = [worker for worker in workers if any(_could_take(gang, worker, each) for each in kinds)]
    ready = [worker for worker in able if any(worker.room_for(gang.job_id, each) >= gang.slots for each in kinds)]
    return len(ready), len(able)


def order_of(gang: WaitingGang) -> tuple[float, str]:
    """Sort gangs, best first: when it was submitted, its priority and its project's use as one number. Pure."""
    return (gang.order_key + gang.set_back_seconds, gang.job_id)


def _place_one(gang: WaitingGang, workers: Sequence[WorkerView], taken: Mapping[tuple[str, str], int]) -> Placement | None:
    for accelerator in ACCELERATORS[gang.accelerator]:
        left = {
            worker.id: worker.room_for(gang.job_id, accelerator) - taken.get((worker.id, accelerator), 0) - gang.slots
            for worker in workers
            if _could_take(gang, worker, accelerator)
        }
        ready = [worker for worker in workers if left.get(worker.id, -1) >= 0]
        ready.sort(key=lambda worker: (left[worker.id], worker.id))
        chosen = choose_workers(gang, [(worker.id, worker.host) for worker in ready], accelerator)
        if chosen is not None:
            return Placement(gang.job_id, accelerator, chosen)
    return None


def _could_take(gang: WaitingGang, worker: WorkerView, accelerator: str) -> bool:
    return gang.stage in worker.stages and worker.total.get(accelerator, 0) >= gang.slots


def _is_kept(worker: WorkerView, gang: WaitingGang) -> bool:
    return any(job_id != gang.job_id for job_id in worker.reserved)


def choose_workers(gang: WaitingGang, ordered: Sequence[tuple[str, str]], accelerator: str) -> tuple[str, ...] | None:
    """Choose `nodes` of these (worker, host), best first, on machines of their own while there are such. Pure."""
    wanted = [(worker_id, host) for worker_id, host in ordered if host not in gang.avoid_hosts]
    for candidates in (wanted, ordered):
        first_on_host: dict[str, str] = {}
        for worker_id, host in candidates:
            first_on_host.setdefault(host, worker_id)
        firsts = list(first_on_host.values())
        # GPUs are lent machine-wide: two workers of one machine may mean the same ones. CPU slots are each worker's own.
        others = [] if accelerator == "gpu" else [worker_id for worker_id, _ in candidates if worker_id not in firsts]
        chosen = (firsts + others)[: gang.nodes]
        if len(chosen) == gang.nodes:
            return tuple(chosen)
    return None

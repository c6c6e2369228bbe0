"""Which machines could hold a job, by the memory their workers registered. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """A worker that serves the job's queue."""

    worker_id: str
    host_bytes: int | None = None
    gpu_bytes: int | None = None
    """Of its smallest GPU; None if it lends none, or did not say."""


@dataclass(frozen=True)
class Need:
    """Memory a job takes on one machine."""

    gpu_rank_bytes: int = 0
    """On each GPU."""
    host_bytes: int = 0
    """In the machine's own memory, all ranks there together."""


@dataclass(frozen=True)
class Fit:
    """Whether a job fits on a machine; None where the machine did not say."""

    worker_id: str
    needed_bytes: int
    available_bytes: int | None
    place: str
    """`gpu`, or `host`: where memory is scarcest."""
    fits: bool | None


def judge_machines(need: Need, machines: Sequence[Machine]) -> list[Fit]:
    """How the job fits on each machine."""
    return [_judge(need, machine) for machine in machines]


def fits_somewhere(fits: Sequence[Fit]) -> bool | None:
    """True if it fits on one of them, False if it surely fits on none, None if nobody knows."""
    known = [fit.fits for fit in fits]
    if True in known:
        return True
    return None if not known or None in known else False


def _judge(need: Need, machine: Machine) -> Fit:
    on_host = _compare(machine, need.host_bytes, machine.host_bytes, "host")
    if not need.gpu_rank_bytes:
        return on_host
    on_gpu = _compare(machine, need.gpu_rank_bytes, machine.gpu_bytes, "gpu")
    return on_host if on_host.fits is False and on_gpu.fits is not False else on_gpu


def _compare(machine: Machine, needed: int, available: int | None, place: str) -> Fit:
    return Fit(machine.worker_id, needed, available, place, None if available is None else needed <= available)

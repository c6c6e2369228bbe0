"""Slots kept free for wide jobs, which a stream of small ones would starve. Small jobs fill what is not kept."""

from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.domain.scheduling.yard import Pool, Reserved, Waiting, Yard


@dataclass(frozen=True)
class Reserve:
    """Keep slots for a job, or go on keeping them."""

    reserved: Reserved
    is_new: bool


@dataclass(frozen=True)
class Release:
    """Keep these slots no longer."""

    reserved: Reserved


def decide_reservations(waiting: Sequence[Waiting], yard: Yard, after_seconds: float) -> list[Reserve | Release]:
    """Which slots to keep for whom.

    A job of several slots that fits nowhere now and waited `after_seconds` gets one reservation, where it will fit soonest.
    Jobs go in their order; one that waits without a reservation is counted where it will likely run, so that nothing is kept
    for a job from the slots of one that goes before it. Reservations of jobs that wait no longer are released.
    """
    mine = {each.job_id: each for each in yard.reserved if not each.is_fixed}
    kept = [each for each in yard.reserved if each.is_fixed]
    expected: list[Reserved] = []
    decided: list[Reserve | Release] = []
    for job in sorted(waiting, key=lambda each: (each.order_key, each.job_id)):
        taken = [*kept, *expected]
        current = mine.get(job.job_id)
        if current is not None and _still_holds(job, current, yard, taken):
            kept.append(current)
            decided.append(Reserve(current, is_new=False))
        elif job.slots > 1 and job.waited_seconds >= after_seconds and not _fits_now(job, yard, taken):
            chosen = _choose(job, yard, taken)
            if chosen is not None:
                kept.append(chosen)
                decided.append(Reserve(chosen, is_new=True))
        else:
            expected += _expect(job, yard, taken)
    return [*decided, *(Release(each) for each in yard.reserved if each not in kept)]


def count_room(pool: Pool, yard: Yard, taken: Sequence[Reserved], job_id: str) -> int:
    """Slots of a pool that could be kept for a job: all but those kept for others and those of services, which never end."""
    services = sum(count for each, count in yard.list_holding(pool) if each.is_service and not each.is_leaving)
    return len(pool.slots) - services - yard.count_kept(pool, taken, job_id)


def _still_holds(job: Waiting, current: Reserved, yard: Yard, taken: Sequence[Reserved]) -> bool:
    pool = yard.find_pool(current)
    return pool is not None and pool.serves(job) and count_room(pool, yard, taken, job.job_id) >= job.slots


def _fits_now(job: Waiting, yard: Yard, taken: Sequence[Reserved]) -> bool:
    return any(yard.count_free(pool) - yard.count_kept(pool, taken, job.job_id) >= job.slots for pool in _serving(job, yard))


def _choose(job: Waiting, yard: Yard, taken: Sequence[Reserved]) -> Reserved | None:
    """The pool where the job fits soonest: most free slots now, then by what is predicted."""
    able = [pool for pool in _serving(job, yard) if count_room(pool, yard, taken, job.job_id) >= job.slots]

    def rank(pool: Pool) -> tuple[bool, int, float, bool, str]:
        missing = max(job.slots - yard.count_free(pool), 0)
        soonest = yard.fits_at(pool, job.slots)
        return (pool.host in job.avoid_hosts, missing, soonest, pool.accelerator == "cpu", pool.worker_id)

    best = min(able, key=rank, default=None)
    return None if best is None else Reserved(job.job_id, best.worker_id, best.accelerator, job.slots)


def _expect(job: Waiting, yard: Yard, taken: Sequence[Reserved]) -> list[Reserved]:
    """Where a job without a reservation will likely run: in the tightest place, for no wide job wants that one."""
    rooms = [(count_room(pool, yard, taken, job.job_id), pool) for pool in _serving(job, yard)]
    able = [(room, pool.worker_id, pool.accelerator) for room, pool in rooms if room >= job.slots]
    return [Reserved(job.job_id, worker, accelerator, job.slots) for _, worker, accelerator in sorted(able)[:1]]


def _serving(job: Waiting, yard: Yard) -> list[Pool]:
    return [pool for pool in yard.pools if pool.serves(job)]

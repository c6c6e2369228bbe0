"""Which running jobs make room for a more important one: the cheapest that suffice, all on one worker."""

from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.domain.scheduling.yard import Pool, Running, Waiting, Yard, end_of

MARGIN = 10
"""Points of priority by which a job must outrank those it displaces: each displacement costs a start and the work since."""


@dataclass(frozen=True)
class Victims:
    """Who must leave so that a job fits on a worker."""

    worker_id: str
    accelerator: str
    jobs: tuple[Running, ...]


def choose_victims(job: Waiting, yard: Yard, grace_seconds: float) -> Victims | None:
    """The victims of lowest priority on one worker, among those the ones that lose least work, then the fewest.

    None if nobody may be displaced, or if waiting is enough: the job fits, or will within `grace_seconds`, which is how long
    a victim may take to save. Others' reservations are left alone.
    """
    serving = [pool for pool in yard.pools if pool.serves(job)]
    if any(_is_waiting_enough(job, pool, yard, grace_seconds) for pool in serving):
        return None
    wanted = [pool for pool in serving if pool.host not in job.avoid_hosts]
    offers = [offer for pool in wanted if (offer := _make_offer(job, pool, yard, grace_seconds)) is not None]
    return min(offers, key=lambda offer: _price(offer, job), default=None)


def _is_waiting_enough(job: Waiting, pool: Pool, yard: Yard, grace_seconds: float) -> bool:
    return count_spare(job.job_id, pool, yard) + count_coming(pool, yard, grace_seconds) >= job.slots


def count_spare(job_id: str, pool: Pool, yard: Yard) -> int:
    """Count the free slots of a pool, less those kept for other jobs; below zero where those wait for more. Pure."""
    return yard.count_free(pool) - yard.count_kept(pool, yard.reserved, job_id)


def count_coming(pool: Pool, yard: Yard, grace_seconds: float) -> int:
    """Count the slots that will be free within the grace time without anybody's being displaced. Pure."""
    soon = yard.now + grace_seconds
    return sum(count for each, count in yard.list_holding(pool) if each.is_leaving or end_of(each) <= soon)


def _make_offer(job: Waiting, pool: Pool, yard: Yard, grace_seconds: float) -> Victims | None:
    spare = count_spare(job.job_id, pool, yard)
    if spare < 0:  # slots that others already wait for would have to be freed as well
        return None
    needed = job.slots - spare - count_coming(pool, yard, grace_seconds)
    able = [
        (each, count) for each, count in yard.list_holding(pool) if may_displace(job.priority, each, yard.now + grace_seconds)
    ]
    for highest in sorted({each.priority for each, _ in able}):
        chosen = find_cheapest([(each, count) for each, count in able if each.priority <= highest], needed)
        if chosen is not None:
            return Victims(pool.worker_id, pool.accelerator, chosen)
    return None


def may_displace(priority: int, running: Running, soon: float) -> bool:
    """Whether a job of this priority may displace one that runs; one that goes by itself before `soon` need not be. Pure."""
    is_going = running.is_leaving or end_of(running) <= soon
    return running.may_be_preempted and not is_going and running.priority <= priority - MARGIN


def find_cheapest(able: Sequence[tuple[Running, int]], needed: int) -> tuple[Running, ...] | None:
    """Find the set that frees enough slots at the least cost: a knapsack, filled to each number of slots in turn."""
    best: dict[int, tuple[float, int, tuple[Running, ...]]] = {0: (0.0, 0, ())}
    for victim, slots in able:
        for covered, (lost, count, chosen) in list(best.items()):
            reach, offer = min(covered + slots, needed), (lost + victim.lost, count + 1, (*chosen, victim))
            if reach not in best or offer[:2] < best[reach][:2]:
                best[reach] = offer
    return best[needed][2] if needed in best else None


def _price(offer: Victims, job: Waiting) -> tuple[int, float, int, bool, str]:
    lost = sum(each.lost for each in offer.jobs)
    return (max(each.priority for each in offer.jobs), lost, len(offer.jobs), offer.accelerator == "cpu", offer.worker_id)

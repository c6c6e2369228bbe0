"""Which running jobs make room for a gang: the cheapest set over several workers, and nobody unless the whole gang then fits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, combinations
from math import inf

from modelyard.domain.scheduling.gangs import ACCELERATORS, WaitingGang, WorkerView, choose_workers
from modelyard.domain.scheduling.preemption import count_coming, count_spare, find_cheapest, may_displace
from modelyard.domain.scheduling.yard import Pool, Running, Yard

MOST_GANGS = 4
"""So many running gangs, the cheapest, are considered as victims: each more doubles the sets to compare."""


@dataclass(frozen=True)
class GangVictims:
    """Who must leave so that a gang fits on these workers; in no order."""

    accelerator: str
    worker_ids: tuple[str, ...]
    jobs: tuple[Running, ...]
    """One entry per job, also where it is a gang with several seats."""


def choose_gang_victims(gang: WaitingGang, workers: Sequence[WorkerView], yard: Yard, grace_seconds: float) -> GangVictims | None:
    """Choose the victims of lowest priority, among those the set that loses least work, then the fewest.

    None if nobody may be displaced, if the gang would not fit even then, or if waiting is enough: it fits, or will within
    `grace_seconds`, which is how long a victim may take to save. Others' reservations are left alone.
    """
    able = {worker.id for worker in workers if gang.stage in worker.stages}
    offers = []
    for accelerator in ACCELERATORS[gang.accelerator]:
        pools = [pool for pool in yard.pools if pool.worker_id in able and pool.accelerator == accelerator]
        offer = _Search(gang, accelerator, pools, yard, grace_seconds).find()
        if offer is not None and not offer.jobs:
            return None
        offers += [offer] if offer is not None else []
    return min(offers, key=lambda offer: (max(each.priority for each in offer.jobs), *_cost(offer.jobs)), default=None)


@dataclass(frozen=True)
class _Room:
    """What one worker could give a node of the gang."""

    pool: Pool
    missing: int
    """Slots it lacks, after what will be free in time."""
    singles: tuple[tuple[Running, int], ...]
    """Jobs of this worker alone that may be displaced, with their slots."""
    seats: tuple[tuple[Running, int], ...]
    """Seats of gangs that may be."""

    def choose(self, highest: float, displaced: frozenset[str]) -> tuple[Running, ...] | None:
        """The cheapest jobs of at most this priority to displace here, if these gangs leave anyway."""
        left = self.missing - sum(count for each, count in self.seats if each.job_id in displaced)
        return find_cheapest([(each, count) for each, count in self.singles if each.priority <= highest], max(left, 0))


@dataclass(frozen=True)
class _Search:
    """All ways to make room on one kind of slots."""

    gang: WaitingGang
    accelerator: str
    pools: Sequence[Pool]
    yard: Yard
    grace_seconds: float
    _chosen: dict[tuple[int, float, frozenset[str]], tuple[Running, ...] | None] = field(default_factory=dict)

    def find(self) -> GangVictims | None:
        priorities = {each.priority for room in self.rooms for each, _ in (*room.singles, *room.seats)}
        for highest in (-inf, *sorted(priorities)):  # first: is nobody needed?
            sets = _subsets(gang for gang in self.gangs if gang.priority <= highest)
            offers = [offer for gangs in sets if (offer := self._fill(highest, gangs)) is not None]
            if offers:
                return min(offers, key=lambda offer: _cost(offer.jobs))
        return None

    @cached_property
    def rooms(self) -> list[_Room]:
        """Workers that could hold a node; not those whose slots to come others wait for already."""
        wide = [pool for pool in self.pools if len(pool.slots) >= self.gang.slots]
        return [self._look(pool) for pool in wide if count_spare(self.gang.job_id, pool, self.yard) >= 0]

    @cached_property
    def gangs(self) -> list[Running]:
        """Gangs that may be displaced, one seat of each, cheapest first."""
        seats = {each.job_id: each for room in self.rooms for each, _ in room.seats}
        return sorted(seats.values(), key=lambda each: (each.priority, each.lost, each.job_id))[:MOST_GANGS]

    def _look(self, pool: Pool) -> _Room:
        soon = self.yard.now + self.grace_seconds
        free = count_spare(self.gang.job_id, pool, self.yard) + count_coming(pool, self.yard, self.grace_seconds)
        able = [(each, n) for each, n in self.yard.list_holding(pool) if may_displace(self.gang.priority, each, soon)]
        singles = tuple(entry for entry in able if not entry[0].is_seat)
        return _Room(pool, self.gang.slots - free, singles, tuple(entry for entry in able if entry[0].is_seat))

    def _fill(self, highest: float, gangs: Sequence[Running]) -> GangVictims | None:
        """The cheapest workers if these gangs leave, with the jobs that must leave besides."""
        displaced = frozenset(each.job_id for each in gangs)
        offers = []
        for index, room in enumerate(self.rooms):
            here = displaced & {each.job_id for each, _ in room.seats}
            key = (index, highest, here)  # most workers have no seat of these gangs: asked for once
            if key not in self._chosen:
                self._chosen[key] = room.choose(highest, here)
            jobs = self._chosen[key]
            if jobs is not None:
                offers.append((_cost(jobs), room.pool, jobs))
        offers.sort(key=lambda offer: (offer[0], offer[1].worker_id))
        victims = {pool.worker_id: jobs for _, pool, jobs in offers}
        chosen = choose_workers(self.gang, [(pool.worker_id, pool.host) for _, pool, _ in offers], self.accelerator)
        if chosen is None:
            return None
        return GangVictims(self.accelerator, chosen, (*gangs, *chain.from_iterable(victims[name] for name in chosen)))


def _subsets(gangs: Iterable[Running]) -> list[tuple[Running, ...]]:
    each = list(gangs)
    return [some for count in range(len(each) + 1) for some in combinations(each, count)]


def _cost(jobs: Sequence[Running]) -> tuple[float, int]:
    return (sum(each.lost for each in jobs), len(jobs))

"""Gangs, placed: all seats of a job in one transaction; workers kept free for one that waited long; late seats given up."""

from collections.abc import Mapping

from modelyard.domain.jobs.gangs import (
    claim_gang,
    end_unready,
    has_kept,
    keep_only,
    list_unready,
    list_waiting_gangs,
    view_workers,
)
from modelyard.domain.jobs.queues import is_gang_queue
from modelyard.domain.jobs.seats import GRACE_SHARE
from modelyard.domain.jobs.tallies import count_claimable
from modelyard.domain.scheduling.gangs import Placement, WaitingGang, keep_free, place
from modelyard.kit.broker import Broker
from modelyard.kit.database import Database, read_clock
from modelyard.kit.logs import get_logger
from modelyard.kit.settings import Settings

GANG_QUEUES = "*.*x*"
KEPT_SECONDS = 15.0
"""A reservation is renewed at every look, so a scheduler that is gone keeps nothing free for long."""
log = get_logger(__name__)


def place_gangs(database: Database, settings: Settings) -> None:
    """Start every gang whose workers are all free, and keep workers free for the best that waited too long."""
    grace = settings.lease_seconds * GRACE_SHARE
    with database.read() as session:
        gangs = list_waiting_gangs(session, grace)
        workers = view_workers(session) if gangs else []
        is_kept = has_kept(session)
    placed = {each.job_id for each in place(gangs, workers) if _start(database, settings, each, grace)}
    waiting = [gang for gang in gangs if gang.job_id not in placed]
    kept = keep_free(waiting, workers, settings.gang_reserve_seconds)
    if kept or is_kept:
        _keep(database, kept, waiting)


def end_unready_gangs(database: Database, settings: Settings) -> None:
    """End attempts some of whose workers did not begin in time: the others must not hold their slots in vain."""
    with database.read() as session:
        late = list_unready(session, settings.gang_ready_seconds)
    for seat in late:
        with database.write() as session:
            if end_unready(session, seat, settings.gang_ready_seconds):
                log.warning("gang not ready in time", job_id=seat.job_id, attempt=seat.attempt, worker=seat.worker_id)


class SurplusTickets:
    """Drops tickets nobody will ever fetch: of gangs that were placed or cancelled, since no ticket starts a gang."""

    def __init__(self, database: Database, broker: Broker) -> None:
        self._database, self._broker = database, broker
        self._surplus: dict[str, int] = {}

    def tick(self) -> None:
        """Drop what was surplus at the last look too. Raises a broker error while Redis does not answer."""
        tickets = self._broker.count_tickets(self._broker.list_queues(GANG_QUEUES))
        with self._database.read() as session:
            waiting = count_claimable(session)
        before, self._surplus = self._surplus, find_surplus(waiting, tickets)
        for queue, number in self._surplus.items():
            if before.get(queue):
                self._broker.drop(queue, min(number, before[queue]))


def find_surplus(waiting: Mapping[str, int], tickets: Mapping[str, int]) -> dict[str, int]:
    """Tickets in queues of gangs beyond one per waiting gang. Pure."""
    surplus = {queue: number - waiting.get(queue, 0) for queue, number in tickets.items() if is_gang_queue(queue)}
    return {queue: number for queue, number in surplus.items() if number > 0}


def _start(database: Database, settings: Settings, placement: Placement, grace_seconds: float) -> bool:
    with database.write() as session:
        job = claim_gang(session, placement, settings.gang_ready_seconds, settings.lease_seconds, grace_seconds)
    if job is None:
        return False
    log.info("gang placed", job_id=job.id, attempt=job.attempt, workers=list(placement.worker_ids))
    return True


def _keep(database: Database, kept: list[Placement], gangs: list[WaitingGang]) -> None:
    slots = {gang.job_id: gang.slots for gang in gangs}
    with database.write() as session:
        keep_only(session, [(each, slots[each.job_id]) for each in kept], read_clock(session) + KEPT_SECONDS)

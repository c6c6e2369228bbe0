"""Ringing again: Redis should hold one ticket per waiting job; what is missing is sent again."""

from collections.abc import Mapping

from modelyard.domain.jobs.repository import list_unrung
from modelyard.domain.jobs.tallies import count_claimable
from modelyard.domain.jobs.tickets import TASK, write_letter
from modelyard.kit.broker import Broker
from modelyard.kit.database import Database
from modelyard.kit.faults import fault
from modelyard.kit.logs import get_logger

RINGS_AT_ONCE = 10_000
"""Tickets of one queue sent in one look: more would hold up the other chores; the rest follows a second later."""
log = get_logger(__name__)


def decide_rings(waiting: Mapping[str, int], tickets: Mapping[str, int], missing_before: Mapping[str, int]) -> dict[str, int]:
    """How many tickets to send per queue. Pure.

    Only what was missing at the last look too: a job just submitted gets its ticket from the API a moment later, and a
    ticket just taken belongs to a job about to be claimed.
    """
    missing = find_missing(waiting, tickets)
    return {queue: min(number, missing_before.get(queue, 0)) for queue, number in missing.items() if missing_before.get(queue)}


def find_missing(waiting: Mapping[str, int], tickets: Mapping[str, int]) -> dict[str, int]:
    """Waiting jobs without a ticket, per queue. Pure."""
    missing = {queue: number - tickets.get(queue, 0) for queue, number in waiting.items()}
    return {queue: number for queue, number in missing.items() if number > 0}


class Relay:
    """Remembers what was missing at the last look."""

    def __init__(self, database: Database, broker: Broker) -> None:
        self._database, self._broker = database, broker
        self._missing: dict[str, int] = {}

    def tick(self) -> None:
        """Compare and ring. Raises a broker error while Redis does not answer."""
        with self._database.read() as session:
            waiting = count_claimable(session)
        tickets = self._broker.count_tickets(waiting)
        rings = decide_rings(waiting, tickets, self._missing)
        self._missing = find_missing(waiting, tickets)
        for queue, number in rings.items():
            self._ring(queue, min(number, RINGS_AT_ONCE))

    def _ring(self, queue: str, number: int) -> None:
        with self._database.read() as session:
            jobs = list_unrung(session, queue, number)
        fault("before_ring")
        self._broker.send(TASK, [write_letter(queue, job_id, attempt) for job_id, attempt in jobs])
        fault("after_ring")
        log.info("rang again", queue=queue, tickets=len(jobs))

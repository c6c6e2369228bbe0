"""What a worker can take on right now; decides which queues it listens to."""

import threading
import time
from dataclasses import dataclass, field

from modelyard.domain.jobs.queues import parse_queue
from modelyard.domain.workers.outlook import Outlook
from modelyard.kit.slots import HeldSlots, SlotPool

GLANCE_SECONDS = 0.05
"""How long one look at the lock files serves: a worker asks for dozens of queues at a time."""
IN_HAND_SECONDS = 5.0
"""A ticket taken from Redis counts as a coming claim for at most so long."""


@dataclass
class Capacity:
    """Free slots, less those that tickets already in hand are about to take and those kept for jobs of other queues."""

    pool: SlotPool
    outlook: Outlook = field(default_factory=Outlook)
    """What others decided about this worker; replaced as a whole by the heartbeat."""
    _in_hand: dict[str, float] = field(default_factory=dict)
    _glance: tuple[float, dict[str, dict[str, int]]] = (0.0, {})
    _lock: threading.Lock = field(default_factory=threading.Lock)
    is_draining: bool = False

    def receive(self, ticket_id: str) -> None:
        """A ticket came; until it has taken its slots, no other is fetched."""
        with self._lock:
            self._in_hand[ticket_id] = time.monotonic() + IN_HAND_SECONDS

    def settle(self, ticket_id: str) -> None:
        """A ticket has its slots, or needs none."""
        with self._lock:
            self._in_hand.pop(ticket_id, None)
            self._glance = (0.0, {})

    def listens_to(self, queue: str) -> bool:
        """Whether a job of this queue could start at once."""
        return not self._has_ticket_in_hand() and bool(self._pools_for(queue, self.count_free()))

    def take(self, queue: str) -> HeldSlots | None:
        """Take the slots a job of this queue needs, or none at all; never those kept for another."""
        _, shape = parse_queue(queue)
        for accelerator in self._pools_for(queue, self.pool.count_free()):
            held = self.pool.take(shape.slots, accelerator)
            if held is not None:
                return held
        return None

    def _pools_for(self, queue: str, free: dict[str, dict[str, int]]) -> list[str]:
        """Accelerators with enough free slots for a job of this queue, the better one first."""
        outlook = self.outlook
        if self.is_draining or not outlook.is_open:
            return []
        _, shape = parse_queue(queue)
        if shape.nodes > 1:  # gangs are placed by the scheduler
            return []
        kinds = ["gpu", "cpu"] if shape.accelerator == "any" else [shape.accelerator]
        return [kind for kind in kinds if free[kind]["free"] - outlook.count_kept(kind, queue) >= shape.slots]

    def count_free(self) -> dict[str, dict[str, int]]:
        """`{"cpu": {"total", "free"}, "gpu": {"total", "free"}}`, at most a glance old."""
        with self._lock:
            seen_at, free = self._glance
            if time.monotonic() - seen_at > GLANCE_SECONDS:
                free = self.pool.count_free()
                self._glance = (time.monotonic(), free)
            return free

    def _has_ticket_in_hand(self) -> bool:
        with self._lock:
            now = time.monotonic()
            self._in_hand = {ticket: until for ticket, until in self._in_hand.items() if until > now}
            return bool(self._in_hand)

"""What a worker can take on right now; decides which queues it listens to."""

import threading
import time
from dataclasses import dataclass, field

from modelyard.domain.jobs.queues import parse_queue
from modelyard.kit.slots import SlotPool

GLANCE_SECONDS = 0.05
"""How long one look at the lock files serves: a worker asks for dozens of queues at a time."""
IN_HAND_SECONDS = 5.0
"""A ticket taken from Redis counts as a coming claim for at most so long."""


@dataclass
class Capacity:
    """Free slots, less those that tickets already in hand are about to take."""

    pool: SlotPool
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
        if self.is_draining or self._has_ticket_in_hand():
            return False
        _, shape = parse_queue(queue)
        free = self.count_free()
        cpu, gpu = free["cpu"]["free"], free["gpu"]["free"]
        return (shape.accelerator != "cpu" and gpu >= shape.slots) or (shape.accelerator != "gpu" and cpu >= shape.slots)

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

"""Seats of gangs on this worker: looked for in the database, for no ticket announces them; taken, run, and left."""

import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass, field

from modelyard.domain.jobs.lifecycle import JobState, Outcome, StaleAttempt
from modelyard.domain.jobs.seats import give_back, leave, list_reserved, take
from modelyard.domain.jobs.tables import Attempt, Job, Seat
from modelyard.kit.database import DatabaseAway
from modelyard.kit.logs import get_logger
from modelyard.kit.slots import HeldSlots
from modelyard.workers.engine.attempts import Engine, Runner
from modelyard.workers.engine.tickets import GangTickets

LOOK_SECONDS = 1.0
LOOKS_PER_QUEUES = 5
TAKE_SECONDS = 3.0
"""How long a seat waits for slots that were free a moment ago: the last process of the job before may take as long to go."""
log = get_logger(__name__)


@dataclass
class SeatTaker:
    """Takes the seats the scheduler reserved on this worker; each has a thread that waits for its runner."""

    engine: Engine
    tickets: GangTickets
    _sitting: dict[tuple[str, int, int], threading.Thread] = field(default_factory=dict)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="seats", daemon=True).start()

    def stop(self, patience_seconds: float) -> None:
        """Look no more, and wait for so long until what runs here has left."""
        self._stopped.set()
        deadline = time.monotonic() + patience_seconds
        for thread in list(self._sitting.values()):
            thread.join(max(deadline - time.monotonic(), 0.0))

    def look(self) -> None:
        """Take every seat reserved for this worker that it has not begun with."""
        with self.engine.database.read() as session:
            found = list_reserved(session, self.engine.worker_id)
        self._sitting = {key: thread for key, thread in self._sitting.items() if thread.is_alive()}
        for seat, job, attempt in found:
            key = (seat.job_id, seat.attempt, seat.node_rank)
            if key not in self._sitting:
                thread = threading.Thread(target=self.sit, args=(seat, job, attempt), name=f"seat {seat.job_id}", daemon=True)
                self._sitting[key] = thread
                thread.start()

    def sit(self, seat: Seat, job: Job, attempt: Attempt) -> None:
        """Take one seat and run its part to the end; give it back if its slots are not to be had."""
        try:
            if job.attempt != seat.attempt or not JobState(job.state).is_active():
                self._leave(seat)
                return
            held = self._take_slots(job, attempt)
            if held is None:
                self._give_back(seat)
                return
            try:
                runner = self._begin(seat, job, held)
            finally:
                held.release()
            if runner is not None:
                with self.tickets.lead(job) if seat.node_rank == 0 else nullcontext():
                    self._wait(seat, job, runner)
        except StaleAttempt:
            self._leave(seat)
        except DatabaseAway as error:
            log.warning("seat not served; looked at again", job_id=seat.job_id, error=type(error).__name__)

    def _run(self) -> None:
        looks = 0
        while not self._stopped.wait(LOOK_SECONDS):
            try:
                self.look()
                if looks % LOOKS_PER_QUEUES == 0:
                    self.tickets.look()
                looks += 1
            except Exception as error:  # a look missed for whatever reason must not be the last
                log.warning("could not look for seats", error=f"{type(error).__name__}: {error}")

    def _take_slots(self, job: Job, attempt: Attempt) -> HeldSlots | None:
        capacity = self.engine.capacity
        if capacity.is_draining or not capacity.outlook.is_open:
            return None
        deadline = time.monotonic() + TAKE_SECONDS
        while (held := capacity.pool.take(job.slots, attempt.accelerator)) is None and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS / 4)
        return held

    def _give_back(self, seat: Seat) -> None:
        closed = self.engine.capacity.is_draining or not self.engine.capacity.outlook.is_open
        outcome = Outcome.DRAINED if closed else Outcome.PREEMPTED
        why = "takes no jobs any more" if closed else "has no free slots any more"
        with self.engine.database.write() as session:
            give_back(session, seat, outcome, f"{seat.worker_id} {why}; node {seat.node_rank} cannot begin")
        log.info("seat given back", job_id=seat.job_id, attempt=seat.attempt, why=why)

    def _begin(self, seat: Seat, job: Job, held: HeldSlots) -> Runner | None:
        names = [slot.name for slot in held.slots]
        with self.engine.database.write() as session:
            taken = take(session, seat, names, self.engine.settings.lease_seconds)
        runner = self.engine.start(taken, held, seat.node_rank)
        if runner is None:
            self._leave(seat, "no runner could be started")
        return runner

    def _wait(self, seat: Seat, job: Job, runner: Runner) -> None:
        why = self.engine.wait(job, runner, seat.node_rank)
        # The runner has left its seat, unless it could not any more, or it belongs to node 0 and has reported the attempt.
        self._leave(seat, why)

    def _leave(self, seat: Seat, why: str | None = None) -> None:
        lost = Outcome.RUNNER_LOST if why and seat.node_rank else None
        with self.engine.database.write() as session:
            leave(session, seat, lost, why)

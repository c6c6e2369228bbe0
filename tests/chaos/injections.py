"""What goes wrong: one function each, in a table with its weight. All are over by themselves, or put themselves right later."""

import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic, time

import psutil
from sqlmodel import col, select

from modelyard.domain.jobs.queues import Shape, queue_name
from modelyard.domain.jobs.retry import DEATHS
from modelyard.domain.jobs.tables import Attempt, Job
from modelyard.domain.jobs.tickets import TASK, make_ticket
from modelyard.kit.broker import BrokerErrors
from modelyard.kit.database import Database
from modelyard.kit.queue import make_app, send
from modelyard.workers.engine.processes import tag_of
from tests.chaos.cluster import LEASE_SECONDS, SCHEDULERS, WORKERS, Cluster, is_runner

FREEZE_SECONDS = 4.0 * LEASE_SECONDS
"""Longer than two leases, and a change of the leading scheduler: whoever wakes up has lost everything it owned."""
DATABASE_AWAY_SECONDS = 20.0
API_LIFE_SECONDS = 25.0


@dataclass
class Injector:
    """Chooses what goes wrong next, and to whom."""

    cluster: Cluster
    database: Database
    random: random.Random
    done: Counter[str] = field(default_factory=Counter)
    """What was injected, how often."""
    _hit: set[str] = field(default_factory=set)
    """Attempts that something was done to: once is enough."""
    _deck: list[str] = field(default_factory=list)
    _later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def inject(self) -> str | None:
        """Do the first thing in the deck that finds a victim, and return its name. What found none stays in front."""
        for name in [*self._deck, *self._deal()]:
            if INJECTIONS[name][1](self):
                if name in self._deck:
                    self._deck.remove(name)
                self.done[name] += 1
                return name
        return None

    def _deal(self) -> list[str]:
        """A new deck when nothing but what finds no victim is left in the old one."""
        new = [name for name, (times, _) in INJECTIONS.items() for _ in range(times)]
        self.random.shuffle(new)
        if not self._deck:
            self._deck = list(new)
        return new

    @property
    def has_all_put_right(self) -> bool:
        """Whether nothing is frozen or away any more."""
        return not self._later

    @property
    def has_done_all(self) -> bool:
        """Whether everything that can go wrong here did."""
        impossible = {"stop the database"} if self.cluster.postgres is None else set()
        return set(INJECTIONS) - impossible <= set(self.done)

    def put_right(self) -> None:
        """Do what is due: thaw, start again."""
        due = [entry for entry in self._later if entry[0] <= monotonic()]
        self._later = [entry for entry in self._later if entry not in due]
        for _, action in due:
            action()

    # --- victims ---

    def victims(self) -> list[tuple[str, int, bool]]:
        """Running attempts that may be lost: (job, number, whether it is in the middle of training).

        Not those of a job that just lost one: a job that loses three in a row is taken out of the line, as it should be.
        """
        with self.database.read() as session:
            query = select(Attempt, Job.kind).join(Job).order_by(col(Attempt.job_id), col(Attempt.seq))
            rows = session.exec(query).all()
        lost: Counter[str] = Counter()
        running = []
        for attempt, kind in rows:
            if attempt.saved_at is not None:
                lost[attempt.job_id] = 0
            if attempt.finished_at is None and not lost[attempt.job_id]:
                running.append((attempt.job_id, attempt.seq, kind == "pretrain" and attempt.first_step_at is not None))
            lost[attempt.job_id] += attempt.outcome in DEATHS and attempt.saved_at is None
        return running

    def pick_attempt(self, in_training: bool = False) -> list[psutil.Process]:
        """The processes of one running attempt, its runner first."""
        wanted = {tag_of(job_id, number) for job_id, number, trains in self.victims() if trains or not in_training} - self._hit
        living = self.cluster.attempts() if wanted else {}
        tags = [tag for tag in sorted(living) if tag in wanted and is_runner(living[tag][0])]
        if not tags:
            return []
        chosen = self.random.choice(tags)
        self._hit.add(chosen)
        return living[chosen]

    def pick_runner(self, in_training: bool = False) -> psutil.Process | None:
        return next(iter(self.pick_attempt(in_training)), None)

    def pick_rank(self) -> psutil.Process | None:
        return next(iter(self.pick_attempt()[1:]), None)

    # --- what happens to them ---

    def kill_process(self, process: psutil.Process | None) -> bool:
        return process is not None and _signal(process, signal.SIGKILL)

    def freeze_process(self, process: psutil.Process | None) -> bool:
        if process is None or not _signal(process, signal.SIGSTOP):
            return False
        self._later.append((monotonic() + FREEZE_SECONDS, lambda: _thaw(process)))
        return True

    def kill_program(self, name: str) -> bool:
        if self.is_busy(name):
            return False
        self.cluster.kill(name)
        self.cluster.start_program(name)
        return True

    def kill_api(self) -> bool:
        """Not before it has answered for a while: an API that never comes up accepts nothing that could be lost."""
        process = psutil.Process(self.cluster.processes["api"].pid)
        return time() - process.create_time() > API_LIFE_SECONDS and self.kill_program("api")

    def freeze_program(self, name: str) -> bool:
        if self.is_busy(name):
            return False
        self.freeze_process(psutil.Process(self.cluster.processes[name].pid))
        return True

    def is_busy(self, name: str) -> bool:
        """Whether a program is frozen or draining already."""
        process = psutil.Process(self.cluster.processes[name].pid)
        return process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}

    def freeze_machine(self) -> bool:
        """A worker stands still while its runner dies: when it wakes, it reports what is long past."""
        attempt = self.pick_attempt(in_training=True)
        workers = {self.cluster.processes[name].pid: name for name in WORKERS}
        owner = next((pid for pid in map(_ancestor(set(workers)), attempt[:1]) if pid), None)
        if owner is None or not self.freeze_program(workers[owner]):
            return False
        return _signal(attempt[0], signal.SIGKILL)

    def drain(self) -> bool:
        """SIGTERM: save and hand over; a new one starts when the old one has left."""
        name = self.random.choice(WORKERS)
        if self.is_busy(name):
            return False
        process = self.cluster.processes[name]
        process.terminate()

        def restart() -> None:
            process.wait()
            self.cluster.start_program(name)

        threading.Thread(target=restart, daemon=True).start()
        return True

    def lose_broker(self) -> bool:
        self.cluster.broker.kill()
        self.cluster.broker.start()
        return True

    def flush_broker(self) -> bool:
        self.cluster.broker.ask().flushall()
        return True

    def forge_tickets(self) -> bool:
        """Tickets of jobs there never were, of attempts long past, of another version; and each twice."""
        app = make_app(self.cluster.settings)
        forged = [make_ticket("job_forged", 1), make_ticket("job_forged", -7), {"v": 99, "job_id": None}]
        for stage in ("prepare", "pretrain"):
            for ticket in [*forged, *forged]:
                try:
                    send(app, TASK, queue_name(stage, Shape(1, "cpu" if stage == "prepare" else "any")), ticket)
                except BrokerErrors:
                    return False
        return True

    def stop_database(self) -> bool:
        """Only with PostgreSQL, and rarely: every lease ends while it is away."""
        postgres = self.cluster.postgres
        if postgres is None or self.done["stop the database"] > 0:
            return False
        postgres.stop()
        self._later.append((monotonic() + DATABASE_AWAY_SECONDS, postgres.start))
        return True


def _signal(process: psutil.Process, number: signal.Signals) -> bool:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True


def _thaw(process: psutil.Process) -> None:
    _signal(process, signal.SIGCONT)


def _ancestor(pids: set[int]) -> Callable[[psutil.Process], int | None]:
    def find(process: psutil.Process) -> int | None:
        try:
            return next((parent.pid for parent in process.parents() if parent.pid in pids), None)
        except psutil.Error:
            return None

    return find


INJECTIONS: dict[str, tuple[int, Callable[[Injector], bool]]] = {
    "kill a worker": (1, lambda it: it.kill_program(it.random.choice(WORKERS))),
    "kill a runner": (2, lambda it: it.kill_process(it.pick_runner())),
    "kill a rank": (1, lambda it: it.kill_process(it.pick_rank())),
    "kill a scheduler": (1, lambda it: it.kill_program(it.random.choice(SCHEDULERS))),
    "kill the API": (1, Injector.kill_api),
    "freeze a runner": (2, lambda it: it.freeze_process(it.pick_runner(in_training=True))),
    "freeze a rank": (1, lambda it: it.freeze_process(it.pick_rank())),
    "freeze a worker": (1, lambda it: it.freeze_program(it.random.choice(WORKERS))),
    "freeze a scheduler": (1, lambda it: it.freeze_program(it.random.choice(SCHEDULERS))),
    "freeze a worker, kill its runner": (2, Injector.freeze_machine),
    "drain a worker": (1, Injector.drain),
    "lose the broker's data": (1, Injector.lose_broker),
    "flush the broker": (1, Injector.flush_broker),
    "forge tickets": (1, Injector.forge_tickets),
    "stop the database": (1, Injector.stop_database),
}
"""Name -> (how often in a round, what to do; False if nobody was there to do it to)."""

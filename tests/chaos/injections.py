"""What goes wrong: one function each, in a table with its weight. All are over by themselves, or put themselves right later."""

import math
import random
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic, time

import psutil

from modelyard.domain.jobs.queues import Shape, queue_name
from modelyard.domain.jobs.tallies import count_claimable
from modelyard.domain.jobs.tickets import TASK, make_ticket
from modelyard.kit.broker import BrokerErrors
from modelyard.kit.database import Database
from modelyard.kit.queue import make_app, send
from tests.chaos.cluster import LEASE_SECONDS, SCHEDULERS, WORKERS, Cluster
from tests.chaos.victims import Victims

FREEZE_SECONDS = 4.0 * LEASE_SECONDS
"""Longer than two leases, and a change of the leading scheduler: whoever wakes up has lost everything it owned."""
LONGEST_FREEZE_SECONDS = 10.0 * LEASE_SECONDS
"""Of what is frozen until somebody else has taken its work over, on a machine however slow."""
LONGEST_DRAIN_SECONDS = 90.0
"""Far more than `MODELYARD_STOP_GRACE_SECONDS` of the cluster."""
DATABASE_AWAY_SECONDS = 20.0
API_LIFE_SECONDS = 25.0
FLUSH_EVERY_SECONDS = 15.0
"""Longer than it takes to be sure that nobody rings again."""
RUNNER_REPLACED = "freeze a runner until its job is taken over"
MACHINE_REPLACED = "freeze a worker, kill its runner, until its job is taken over"
TICKETS_LOST = "flush the broker while jobs wait"


@dataclass(frozen=True)
class Repair:
    """What puts something right again, and when: once it may be, at the latest when it must be (monotonic seconds)."""

    action: Callable[[], None]
    due_at: float
    early_at: float
    may_be_early: Callable[[], bool]

    def is_due(self, now: float) -> bool:
        """Whether now is the time."""
        return now >= self.due_at or (now >= self.early_at and self.may_be_early())


@dataclass
class Injector:
    """Chooses what goes wrong next, and to whom."""

    cluster: Cluster
    database: Database
    random: random.Random
    table: Mapping[str, int] = field(default_factory=lambda: AT_RANDOM)
    """Name of an injection -> how often in a round."""
    done: Counter[str] = field(default_factory=Counter)
    """What was injected, how often."""
    problems: list[str] = field(default_factory=list)
    """What should not have happened, in sentences."""
    victims: Victims = field(init=False)
    _leaving: set[str] = field(default_factory=set)
    _deck: list[str] = field(default_factory=list)
    _flushed_at: float = -math.inf
    _later: list[Repair] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.victims = Victims(self.cluster, self.database, self.random)

    def inject(self) -> str | None:
        """Do the first thing in the deck that finds a victim, and return its name. What found none stays in front."""
        for name in [*self._deck, *self._deal()]:
            if INJECTIONS[name](self):
                if name in self._deck:
                    self._deck.remove(name)
                self.done[name] += 1
                return name
        return None

    def _deal(self) -> list[str]:
        """A new deck when nothing but what finds no victim is left in the old one."""
        new = [name for name, times in self.table.items() for _ in range(times)]
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
        return set(self.table) - impossible <= set(self.done)

    def put_right(self) -> None:
        """Do what is due: thaw, start again."""
        due = [each for each in self._later if each.is_due(monotonic())]
        self._later = [each for each in self._later if each not in due]
        for each in due:
            each.action()

    def _put_right_after(self, seconds: float, action: Callable[[], None]) -> None:
        at = monotonic() + seconds
        self._later.append(Repair(action, at, at, lambda: True))

    def kill_process(self, process: psutil.Process | None) -> bool:
        return process is not None and _signal(process, signal.SIGKILL)

    def freeze_process(self, process: psutil.Process | None) -> bool:
        if process is None or not _signal(process, signal.SIGSTOP):
            return False
        self._put_right_after(FREEZE_SECONDS, lambda: _thaw(process))
        return True

    def freeze_until_taken_over(self, process: psutil.Process, tag: str) -> bool:
        """Longer than two leases, and until a later attempt has begun: how long that takes depends on the machine."""
        if not _signal(process, signal.SIGSTOP):
            return False
        now = monotonic()
        over = Repair(
            lambda: _thaw(process), now + LONGEST_FREEZE_SECONDS, now + 2 * LEASE_SECONDS, lambda: self.victims.is_taken_over(tag)
        )
        self._later.append(over)
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
        if name in self._leaving:
            return True
        process = psutil.Process(self.cluster.processes[name].pid)
        return process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}

    def freeze_machine(self) -> bool:
        """A worker stands still while its runner dies: when it wakes, it reports what is long past."""
        attempt = self.victims.pick_attempt(in_training=True)
        owner = self.victims.find_worker(attempt.runner) if attempt else None
        if attempt is None or owner is None or not self.freeze_program(owner):
            return False
        return _signal(attempt.runner, signal.SIGKILL)

    def freeze_runner_until_taken_over(self) -> bool:
        """Its ranks go on, and who might end them is frozen too: only its deadline does before the job is somebody else's."""
        attempt = self.victims.pick_attempt(in_training=True)
        if attempt is None or not self.freeze_until_taken_over(attempt.runner, attempt.tag):
            return False
        for name in {self.victims.find_worker(attempt.runner), self.victims.find_reaper()} - {None}:
            if not self.is_busy(str(name)):
                self.freeze_until_taken_over(psutil.Process(self.cluster.processes[str(name)].pid), attempt.tag)
        return True

    def freeze_machine_until_taken_over(self) -> bool:
        """The worker's late report is of an attempt that has a successor: only its number tells."""
        attempt = self.victims.pick_attempt(in_training=True)
        owner = self.victims.find_worker(attempt.runner) if attempt else None
        if attempt is None or owner is None or self.is_busy(owner):
            return False
        self.freeze_until_taken_over(psutil.Process(self.cluster.processes[owner].pid), attempt.tag)
        return _signal(attempt.runner, signal.SIGKILL)

    def drain(self) -> bool:
        """SIGTERM: save and hand over; a new one starts when the old one has left."""
        name = self.random.choice(WORKERS)
        if self.is_busy(name):
            return False
        process = self.cluster.processes[name]
        process.terminate()
        self._leaving.add(name)
        now = monotonic()
        replaced = Repair(lambda: self._replace(name), now + LONGEST_DRAIN_SECONDS, now, lambda: process.poll() is not None)
        self._later.append(replaced)
        return True

    def _replace(self, name: str) -> None:
        if self.cluster.processes[name].poll() is None:
            self.problems.append(f"{name} did not leave within {LONGEST_DRAIN_SECONDS:g} s of SIGTERM")
            self.cluster.kill(name)
        self.cluster.start_program(name)
        self._leaving.remove(name)

    def lose_broker(self) -> bool:
        self.cluster.broker.kill()
        self.cluster.broker.start()
        return True

    def flush_broker(self) -> bool:
        self.cluster.broker.ask().flushall()
        return True

    def flush_while_jobs_wait(self) -> bool:
        """Only the relay can ring for them again; it is given the time to."""
        if monotonic() - self._flushed_at < FLUSH_EVERY_SECONDS:
            return False
        with self.database.read() as session:
            if not any(count_claimable(session).values()):
                return False
        self._flushed_at = monotonic()
        return self.flush_broker()

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
        self._put_right_after(DATABASE_AWAY_SECONDS, postgres.start)
        return True


def _signal(process: psutil.Process, number: signal.Signals) -> bool:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True


def _thaw(process: psutil.Process) -> None:
    _signal(process, signal.SIGCONT)


INJECTIONS: dict[str, Callable[[Injector], bool]] = {
    "kill a worker": lambda it: it.kill_program(it.random.choice(WORKERS)),
    "kill a runner": lambda it: it.kill_process(it.victims.pick_runner()),
    "kill a rank": lambda it: it.kill_process(it.victims.pick_rank()),
    "kill a scheduler": lambda it: it.kill_program(it.random.choice(SCHEDULERS)),
    "kill the API": Injector.kill_api,
    "freeze a runner": lambda it: it.freeze_process(it.victims.pick_runner(in_training=True)),
    "freeze a rank": lambda it: it.freeze_process(it.victims.pick_rank()),
    "freeze a worker": lambda it: it.freeze_program(it.random.choice(WORKERS)),
    "freeze a scheduler": lambda it: it.freeze_program(it.random.choice(SCHEDULERS)),
    "freeze a worker, kill its runner": Injector.freeze_machine,
    "drain a worker": Injector.drain,
    "lose the broker's data": Injector.lose_broker,
    "flush the broker": Injector.flush_broker,
    "forge tickets": Injector.forge_tickets,
    "stop the database": Injector.stop_database,
    RUNNER_REPLACED: Injector.freeze_runner_until_taken_over,
    MACHINE_REPLACED: Injector.freeze_machine_until_taken_over,
    TICKETS_LOST: Injector.flush_while_jobs_wait,
}
"""Name -> what to do; False if nobody was there to do it to."""
DIRECTED = (RUNNER_REPLACED, MACHINE_REPLACED, TICKETS_LOST)
"""What one safeguard each is there for: without it, it does harm on a machine of whatever speed."""
TWICE_A_ROUND = ("kill a runner", "freeze a runner", "freeze a worker, kill its runner")
AT_RANDOM: dict[str, int] = {name: 2 if name in TWICE_A_ROUND else 1 for name in INJECTIONS if name not in DIRECTED}

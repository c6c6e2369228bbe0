"""The scheduler: one leader among however many processes, going through a table of chores.

Every chore is a set of compare-and-sets: stopping at any line, or two leaders for a moment, harms nothing.
"""

import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from modelyard.domain.jobs.tallies import has_open_jobs
from modelyard.domain.workers.repository import leave_lead, take_lead
from modelyard.kit.broker import Broker
from modelyard.kit.database import Database
from modelyard.kit.logs import get_logger, set_up_logs
from modelyard.kit.settings import Settings, get_settings
from modelyard.kit.storage import ArtifactStore
from modelyard.scheduler.gangs import SurplusTickets, end_unready_gangs, place_gangs
from modelyard.scheduler.pipelines import advance_held_jobs, settle_pipelines
from modelyard.scheduler.placement import exclude_bad_hosts, hand_over, place
from modelyard.scheduler.quotas import apply_quotas, start_due_jobs
from modelyard.scheduler.relay import Relay
from modelyard.scheduler.repair import discard_checkpoints, end_dead_leases, forget_old_requests, forget_silent_workers
from modelyard.scheduler.retention import sweep_checkpoints
from modelyard.scheduler.room import make_room_for_gangs
from modelyard.scheduler.schedules import fill_slots
from modelyard.scheduler.sweeps import conduct_sweeps
from modelyard.scheduler.tallies import add_up_tallies

ROLE = "scheduler"
LEAD_SECONDS = 10.0
RENEW_SECONDS = 2.0
"""The leader writes no more often that it is one."""
REST_FACTOR = 10.0
"""So much more rarely is done what concerns jobs that are not finished, while there are none."""
MINUTE_SECONDS = 60.0
HOUR_SECONDS = 3600.0
log = get_logger(__name__)


@dataclass
class Chore:
    """Something to do again and again."""

    name: str
    every_seconds: float
    do: Callable[[], None]
    may_rest: bool = False
    """Finds nothing to do while no job waits, runs or is held: then it is done less often, in case something is amiss."""
    done_at: float = -math.inf

    def is_due(self, now: float, is_at_rest: bool) -> bool:
        """Whether it is to be done again. `is_at_rest`: every job is finished."""
        return now - self.done_at >= self.every_seconds * (REST_FACTOR if is_at_rest and self.may_rest else 1.0)


def make_chores(settings: Settings, database: Database) -> list[Chore]:
    """All chores of the scheduler and how often each is done."""
    interval = settings.scheduler_interval_seconds
    store = ArtifactStore(settings.artifacts, settings.folder("cache") / "artifacts")
    broker = Broker(settings)
    relay, surplus = Relay(database, broker), SurplusTickets(database, broker)
    return [
        Chore("end dead leases", interval, lambda: end_dead_leases(database, settings), may_rest=True),
        Chore("place gangs", interval, lambda: place_gangs(database, settings), may_rest=True),
        Chore("make room for gangs", interval, lambda: make_room_for_gangs(database, settings), may_rest=True),
        Chore("end unready gangs", interval, lambda: end_unready_gangs(database, settings), may_rest=True),
        Chore("drop surplus tickets", 5 * interval, surplus.tick),
        Chore("advance held jobs", interval, lambda: advance_held_jobs(database), may_rest=True),
        Chore("start due jobs", interval, lambda: start_due_jobs(database), may_rest=True),
        Chore("apply quotas", interval, lambda: apply_quotas(database), may_rest=True),
        Chore("ring again", interval, relay.tick, may_rest=True),
        Chore("add up tallies", interval, lambda: add_up_tallies(database), may_rest=True),
        Chore("place jobs", interval, lambda: place(database, settings), may_rest=True),
        Chore("hand over from drained workers", interval, lambda: hand_over(database), may_rest=True),
        Chore("exclude bad hosts", 5 * interval, lambda: exclude_bad_hosts(database)),
        Chore("fill slots of schedules", interval, lambda: fill_slots(database)),
        Chore("conduct sweeps", interval, lambda: conduct_sweeps(database)),
        Chore("settle pipelines", interval, lambda: settle_pipelines(database)),
        Chore("discard checkpoints", interval, lambda: discard_checkpoints(database, store)),
        Chore("forget silent workers", 10 * interval, lambda: forget_silent_workers(database)),
        Chore("sweep checkpoints", MINUTE_SECONDS, lambda: sweep_checkpoints(database, store, settings.keep_checkpoints_days)),
        Chore("forget old requests", HOUR_SECONDS, lambda: forget_old_requests(database)),
    ]


def do_due(chores: Sequence[Chore], now: float, is_at_rest: bool = False) -> None:
    """Do every chore that is due. One that fails is logged and comes again; the others are not held up."""
    for chore in chores:
        if not chore.is_due(now, is_at_rest):
            continue
        chore.done_at = now
        try:
            chore.do()
        except (SQLAlchemyError, RedisError, OSError) as error:
            log.warning("chore failed; it comes again", chore=chore.name, error=f"{type(error).__name__}: {error}")
        except Exception as error:  # a mistake of ours in one chore must not stop the others for the whole platform
            log.error("chore broke; it comes again", chore=chore.name, exc_info=error)


def main(settings: Settings | None = None) -> int:
    """Run until told to stop. Returns the exit code."""
    settings = settings or get_settings()
    set_up_logs(settings.log_level)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    database = Database(settings.database)
    holder = f"{socket.gethostname()}:{os.getpid()}"
    chores = make_chores(settings, database)
    log.info("scheduler ready", holder=holder)
    renew_at = 0.0
    while not stopped.wait(settings.scheduler_interval_seconds):
        now = time.monotonic()
        if now >= renew_at:
            renew_at = now + RENEW_SECONDS if _leads(database, holder) else 0.0
        if renew_at:
            do_due(chores, now, _is_at_rest(database))
    _leave(database, holder)
    return 0


def _leads(database: Database, holder: str) -> bool:
    try:
        with database.write() as session:
            return take_lead(session, ROLE, holder, LEAD_SECONDS)
    except SQLAlchemyError as error:
        log.warning("the database does not answer", error=type(error).__name__)
        return False


def _is_at_rest(database: Database) -> bool:
    try:
        with database.read() as session:
            return not has_open_jobs(session)
    except SQLAlchemyError:
        return False  # the chores say what is the matter


def _leave(database: Database, holder: str) -> None:
    try:
        with database.write() as session:
            leave_lead(session, ROLE, holder)
    except SQLAlchemyError:
        log.warning("left without saying so; the next leader waits for the lease to end")

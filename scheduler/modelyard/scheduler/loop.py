"""The scheduler: one leader among however many processes, going through a table of chores.

Every chore is a set of compare-and-sets: stopping at any line, or two leaders for a moment, harms nothing.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

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
from modelyard.scheduler.schedules import fill_slots
from modelyard.scheduler.sweeps import conduct_sweeps
from modelyard.scheduler.tallies import add_up_tallies

ROLE = "scheduler"
LEAD_SECONDS = 10.0
MINUTE_SECONDS = 60.0
HOUR_SECONDS = 3600.0
log = get_logger(__name__)


@dataclass
class Chore:
    """Something to do again and again."""

    name: str
    every_seconds: float
    do: Callable[[], None]
    due_at: float = 0.0


def make_chores(settings: Settings, database: Database) -> list[Chore]:
    """All chores of the scheduler and how often each is done."""
    interval = settings.scheduler_interval_seconds
    store = ArtifactStore(settings.artifacts, settings.folder("cache") / "artifacts")
    broker = Broker(settings)
    relay, surplus = Relay(database, broker), SurplusTickets(database, broker)
    return [
        Chore("end dead leases", interval, lambda: end_dead_leases(database, settings)),
        Chore("place gangs", interval, lambda: place_gangs(database, settings)),
        Chore("end unready gangs", interval, lambda: end_unready_gangs(database, settings)),
        Chore("drop surplus tickets", 5 * interval, surplus.tick),
        Chore("advance held jobs", interval, lambda: advance_held_jobs(database)),
        Chore("start due jobs", interval, lambda: start_due_jobs(database)),
        Chore("apply quotas", interval, lambda: apply_quotas(database)),
        Chore("ring again", interval, relay.tick),
        Chore("add up tallies", interval, lambda: add_up_tallies(database)),
        Chore("place jobs", interval, lambda: place(database, settings)),
        Chore("hand over from drained workers", interval, lambda: hand_over(database)),
        Chore("exclude bad hosts", 5 * interval, lambda: exclude_bad_hosts(database)),
        Chore("fill slots of schedules", interval, lambda: fill_slots(database)),
        Chore("conduct sweeps", interval, lambda: conduct_sweeps(database)),
        Chore("settle pipelines", interval, lambda: settle_pipelines(database)),
        Chore("discard checkpoints", interval, lambda: discard_checkpoints(database, store)),
        Chore("forget silent workers", 10 * interval, lambda: forget_silent_workers(database)),
        Chore("sweep checkpoints", MINUTE_SECONDS, lambda: sweep_checkpoints(database, store, settings.keep_checkpoints_days)),
        Chore("forget old requests", HOUR_SECONDS, lambda: forget_old_requests(database)),
    ]


def do_due(chores: Sequence[Chore], now: float) -> None:
    """Do every chore that is due. One that fails is logged and comes again; the others are not held up."""
    for chore in chores:
        if now < chore.due_at:
            continue
        chore.due_at = now + chore.every_seconds
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
    while not stopped.wait(settings.scheduler_interval_seconds):
        if _leads(database, holder):
            do_due(chores, time.monotonic())
    _leave(database, holder)
    return 0


def _leads(database: Database, holder: str) -> bool:
    try:
        with database.write() as session:
            return take_lead(session, ROLE, holder, LEAD_SECONDS)
    except SQLAlchemyError as error:
        log.warning("the database does not answer", error=type(error).__name__)
        return False


def _leave(database: Database, holder: str) -> None:
    try:
        with database.write() as session:
            leave_lead(session, ROLE, holder)
    except SQLAlchemyError:
        log.warning("left without saying so; the next leader waits for the lease to end")

"""Conducting sweeps: look, decide, do one thing, look again."""

import math
import time

from sqlalchemy.exc import IntegrityError

from modelyard.domain.errors import Conflict
from modelyard.domain.scheduling.quotas import QuotaExceeded
from modelyard.domain.sweeps.conduct import carry_out
from modelyard.domain.sweeps.decisions import Create, decide
from modelyard.domain.sweeps.repository import list_open
from modelyard.domain.sweeps.sampling import propose
from modelyard.domain.sweeps.situation import inquire, list_tried, read_space
from modelyard.domain.sweeps.tables import Sweep
from modelyard.kit.database import Database, DatabaseAway
from modelyard.kit.faults import fault
from modelyard.kit.logs import get_logger

LOOK_SECONDS = 2.0
"""So that large sweeps do not hold up the other chores, nor outlast the scheduler's lead; the rest follows a second later."""
log = get_logger(__name__)


def conduct_sweeps(database: Database) -> None:
    """Do what is to be done about every open sweep; one that cannot be conducted holds up no other."""
    with database.read() as session:
        found = list_open(session)
    until = time.monotonic() + LOOK_SECONDS
    for sweep_id in found:
        try:
            conduct_one(database, sweep_id, until)
        except DatabaseAway:
            raise
        except (Conflict, QuotaExceeded, IntegrityError) as error:
            # A job moved meanwhile, another scheduler was first, or the project has too many jobs waiting.
            log.info("sweep looked at again later", sweep_id=sweep_id, because=str(error))
        except Exception as error:
            log.error("sweep cannot be conducted", sweep_id=sweep_id, exc_info=error)


def conduct_one(database: Database, sweep_id: str, until: float = math.inf) -> None:
    """Do one thing after the other about a sweep until there is nothing to do now, or the time is up."""
    while time.monotonic() < until and take_one_step(database, sweep_id):
        pass


def take_one_step(database: Database, sweep_id: str) -> bool:
    """Look, decide, and do it if nothing changed since; False if there is nothing to do."""
    with database.read() as session:
        sweep = session.get_one(Sweep, sweep_id)
        situation = inquire(session, sweep)
        action = decide(situation.sweep, situation.trials) if sweep.finished_at is None else None
        tried = list_tried(session, sweep_id) if isinstance(action, Create) else []
    if action is None:
        return False
    parameters = {}
    if isinstance(action, Create):
        parameters = propose(read_space(sweep.parameters), sweep.sampler, situation.sweep.minimizes, sweep.seed, tried)
    with database.write() as session:
        carry_out(session, sweep_id, situation.revision, action, parameters)
        fault("sweep_before_commit")
    fault("sweep_between_actions")
    log.info("sweep", sweep_id=sweep_id, name=sweep.name, action=type(action).__name__.lower(), decided=str(action))
    return True

"""Submitting what schedules keep, at their times."""

from sqlalchemy.exc import IntegrityError

from modelyard.domain.schedules.repository import list_due
from modelyard.domain.schedules.service import fill_slot, note_failure
from modelyard.kit.database import Database, DatabaseAway
from modelyard.kit.faults import fault
from modelyard.kit.logs import get_logger

log = get_logger(__name__)


def fill_slots(database: Database) -> None:
    """Fill the slot of every schedule whose time has come; one that cannot be filled holds up no other."""
    with database.read() as session:
        due = list_due(session)
    for schedule_id in due:
        try:
            fill_one(database, schedule_id)
        except DatabaseAway:
            raise
        except Exception as error:
            with database.write() as session:
                wait_seconds = note_failure(session, schedule_id, f"{type(error).__name__}: {error}")
            log.error("slot cannot be filled", schedule_id=schedule_id, wait_seconds=wait_seconds, exc_info=error)


def fill_one(database: Database, schedule_id: str) -> None:
    """Fill the slot of one schedule, unless another scheduler does so at this moment."""
    try:
        with database.write() as session:
            slot = fill_slot(session, schedule_id)
            fault("slot_before_commit")
    except IntegrityError as error:
        log.info("slot not filled: another scheduler was first", schedule_id=schedule_id, error=str(error.orig))
        return
    if slot is not None:
        made = slot.job_id or slot.pipeline_id
        log.info("slot filled", schedule_id=schedule_id, at=slot.at, submitted=made, message=slot.message)

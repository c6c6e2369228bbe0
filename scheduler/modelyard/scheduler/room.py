"""Room made for gangs: jobs on several workers at once are asked to save and leave, all of them or none."""

from modelyard.domain.jobs.gangs import keep_instead, list_waiting_gangs, view_workers
from modelyard.domain.jobs.lifecycle import JobState, Outcome
from modelyard.domain.jobs.repository import find_job
from modelyard.domain.jobs.seats import GRACE_SHARE
from modelyard.domain.scheduling.gang_preemption import GangVictims, choose_gang_victims
from modelyard.domain.scheduling.gangs import Placement, WaitingGang, order_of
from modelyard.domain.scheduling.preemption import MARGIN
from modelyard.domain.workers.handing_over import ask_to_leave
from modelyard.domain.workers.survey import has_preemptible, survey
from modelyard.kit.database import Database, read_clock
from modelyard.kit.logs import get_logger
from modelyard.kit.settings import Settings
from modelyard.scheduler.gangs import KEPT_SECONDS

log = get_logger(__name__)


class _Changed(Exception):
    """Something moved since the look: nobody is asked, the next look decides anew."""


def make_room_for_gangs(database: Database, settings: Settings) -> None:
    """Ask jobs to leave for the first gang that waited long enough and may displace others."""
    with database.read() as session:
        gangs = list_waiting_gangs(session, settings.lease_seconds * GRACE_SHARE)
        late = [gang for gang in gangs if gang.waited_seconds >= settings.preempt_after_seconds]
        if not late or not has_preemptible(session, max(gang.priority for gang in late) - MARGIN):
            return
        workers, yard = view_workers(session), survey(session)
    for gang in sorted(late, key=order_of):
        victims = choose_gang_victims(gang, workers, yard, settings.stop_grace_seconds)
        if victims is not None and displace(database, gang, victims):
            return  # one at a time: the next look sees who is leaving


def displace(database: Database, gang: WaitingGang, victims: GangVictims) -> bool:
    """Ask the victims to leave and keep their slots for the gang, in one transaction. False if anything changed meanwhile."""
    try:
        with database.write() as session:
            waiting = find_job(session, gang.job_id, for_update=True)
            if waiting is None or waiting.state != JobState.QUEUED:
                raise _Changed
            because = {"for_priority": gang.priority}
            for each in sorted(victims.jobs, key=lambda victim: victim.job_id):
                if not ask_to_leave(session, each.job_id, each.attempt, Outcome.PREEMPTED, because):
                    raise _Changed
            placement = Placement(gang.job_id, victims.accelerator, victims.worker_ids)
            keep_instead(session, placement, gang.slots, read_clock(session) + KEPT_SECONDS)
    except _Changed:
        return False
    asked = [each.job_id for each in victims.jobs]
    log.info("preempted for a gang", job_id=gang.job_id, workers=list(victims.worker_ids), victims=asked)
    return True

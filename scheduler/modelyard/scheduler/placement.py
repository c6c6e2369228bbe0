"""Where jobs run: slots kept for wide jobs, room made for important ones, drained workers emptied, bad machines avoided."""

from dataclasses import replace

from sqlmodel import Session

from modelyard.domain.jobs.lifecycle import JobState, Outcome
from modelyard.domain.jobs.repository import find_job
from modelyard.domain.scheduling.preemption import MARGIN, Victims, choose_victims
from modelyard.domain.scheduling.reservations import Release, Reserve, decide_reservations
from modelyard.domain.scheduling.strikes import Blow, Exclude, Record, decide_exclusions
from modelyard.domain.scheduling.yard import Waiting
from modelyard.domain.workers.handing_over import ask_to_leave, list_to_hand_over
from modelyard.domain.workers.hosts import exclude, list_hosts, list_strikes
from modelyard.domain.workers.repository import list_serving
from modelyard.domain.workers.reservations import forget_expired, list_reservations, release, renew_reservation, reserve
from modelyard.domain.workers.survey import has_preemptible, list_waiting, survey
from modelyard.kit.database import Database, read_clock
from modelyard.kit.logs import get_logger
from modelyard.kit.settings import Settings

log = get_logger(__name__)


def place(database: Database, settings: Settings) -> None:
    """Keep slots for jobs that waited too long, and make room for the most important one that may displace others."""
    with database.read() as session:
        waiting = list_waiting(session)
        if not _is_worth_a_survey(session, waiting, settings):
            return
        yard = survey(session)
    decided = decide_reservations(waiting, yard, settings.reserve_after_seconds)
    _keep(database, decided)
    kept = [each.reserved for each in decided if isinstance(each, Reserve)]
    late = [job for job in waiting if job.waited_seconds >= settings.preempt_after_seconds]
    after = replace(yard, reserved=[*kept, *(each for each in yard.reserved if each.is_fixed)])
    for job in sorted(late, key=lambda each: (each.order_key, each.job_id)):
        victims = choose_victims(job, after, settings.stop_grace_seconds)
        if victims is not None and _preempt(database, job, victims):
            return  # one at a time: the next look sees who is leaving


def _is_worth_a_survey(session: Session, waiting: list[Waiting], settings: Settings) -> bool:
    """Whether anything could come of it: most of the time jobs wait for slots and nothing is to be done about it."""
    if list_reservations(session) or any(
        job.slots > 1 and job.waited_seconds >= settings.reserve_after_seconds for job in waiting
    ):
        return True
    late = [job.priority for job in waiting if job.waited_seconds >= settings.preempt_after_seconds]
    return bool(late) and has_preemptible(session, max(late) - MARGIN)


def _keep(database: Database, decided: list[Reserve | Release]) -> None:
    if not decided:
        return
    with database.write() as session:
        for each in decided:
            row = each.reserved
            if isinstance(each, Release):
                release(session, row.worker_id, row.job_id)
            elif each.is_new:
                reserve(session, row.worker_id, row.job_id, row.accelerator, row.slots)
            else:
                renew_reservation(session, row.worker_id, row.job_id)
        forget_expired(session)
    for each in decided:
        if isinstance(each, Release) or each.is_new:
            what = "slots released" if isinstance(each, Release) else "slots reserved"
            log.info(what, job_id=each.reserved.job_id, worker=each.reserved.worker_id, slots=each.reserved.slots)


def _preempt(database: Database, job: Waiting, victims: Victims) -> bool:
    """Ask the victims to leave and keep their slots for the job. False if it waits no longer, or none could be asked."""
    with database.write() as session:
        wanting = find_job(session, job.job_id, for_update=True)
        if wanting is None or wanting.state != JobState.QUEUED:
            return False
        because = {"for_priority": job.priority}
        asked = [each for each in victims.jobs if ask_to_leave(session, each.job_id, each.attempt, Outcome.PREEMPTED, because)]
        if not asked:
            return False
        reserve(session, victims.worker_id, job.job_id, victims.accelerator, job.slots)
    log.info("preempted", job_id=job.job_id, worker=victims.worker_id, victims=[each.job_id for each in asked])
    return True


def hand_over(database: Database) -> None:
    """Ask the jobs of drained workers to save and leave."""
    with database.read() as session:
        leaving = [(job.id, job.attempt, job.worker_id) for job in list_to_hand_over(session)]
    for job_id, attempt, worker_id in leaving:
        with database.write() as session:
            asked = ask_to_leave(session, job_id, attempt, Outcome.DRAINED, {"worker": worker_id})
        if asked:
            log.info("asked to leave a drained worker", job_id=job_id, attempt=attempt, worker=worker_id)


def exclude_bad_hosts(database: Database) -> None:
    """Keep jobs away from machines that collected strikes."""
    with database.read() as session:
        decided = _decide(session)
    for each in decided:
        with database.write() as session:
            exclude(session, each.host, each.seconds, each.because)
        log.warning("host excluded", host=each.host, minutes=each.seconds / 60, because=each.because)


def _decide(session: Session) -> list[Exclude]:
    blows = [Blow(row.host, row.job_id, row.outcome, row.at) for row in list_strikes(session)]
    if not blows:
        return []
    records = {row.name: Record(row.excluded_at, row.excluded_until) for row in list_hosts(session)}
    serving: dict[str, frozenset[str]] = {}
    for worker in list_serving(session):
        serving[worker.host] = serving.get(worker.host, frozenset()) | frozenset(worker.queues)
    return decide_exclusions(blows, records, serving, read_clock(session))

"""Where jobs run: emptying drained workers, and keeping jobs away from machines that lose them."""

from sqlmodel import Session

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.scheduling.strikes import Blow, Exclude, Record, decide_exclusions
from modelyard.domain.workers.handing_over import ask_to_leave, list_to_hand_over
from modelyard.domain.workers.hosts import exclude, list_hosts, list_strikes
from modelyard.domain.workers.repository import list_serving
from modelyard.kit.database import Database, read_clock
from modelyard.kit.logs import get_logger

log = get_logger(__name__)


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

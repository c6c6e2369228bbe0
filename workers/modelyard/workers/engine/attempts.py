"""One ticket, answered: slots, claim, runner, and the report if the runner could not make it itself."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field

from modelyard.domain.jobs.lifecycle import Outcome, StaleAttempt
from modelyard.domain.jobs.ownership import claim, finish
from modelyard.domain.jobs.tables import Job
from modelyard.kit.broker import BrokerErrors
from modelyard.kit.database import Database, DatabaseAway
from modelyard.kit.faults import fault
from modelyard.kit.logs import get_logger
from modelyard.kit.settings import Settings
from modelyard.kit.slots import HeldSlots
from modelyard.workers.engine.capacity import Capacity
from modelyard.workers.engine.handover import Handover, make_handover
from modelyard.workers.engine.nursery import Nursery
from modelyard.workers.engine.processes import EXIT_ALREADY_RUNNING, kill_tagged, start_runner, tag_of
from modelyard.workers.engine.warm_runner import WarmRunner
from modelyard.workers.runner.deadline import boot_time

Runner = subprocess.Popen[bytes] | WarmRunner
log = get_logger(__name__)


@dataclass
class Engine:
    """Everything a worker needs to turn tickets into running attempts."""

    settings: Settings
    database: Database
    capacity: Capacity
    worker_id: str
    runners: dict[str, Runner] = field(default_factory=dict)
    nursery: Nursery | None = None
    """Forks runners; without one they are started as programs."""

    def answer(self, queue: str, ticket_id: str, tell: Callable[[Job], None]) -> bool:
        """Run the best waiting job of a queue to its end. False if slots were gone, so that the ticket should wait again."""
        held = self.capacity.take(queue)
        if held is None:
            self.capacity.settle(ticket_id)
            return False
        try:
            if self.nursery is not None:
                self.nursery.wait()  # before the claim: no lease runs meanwhile
            claimed = self._claim(queue, held)
            if claimed is None:
                return True
            fault("claim_after_commit_before_runner")
            job, handover = claimed
            runner = self.start(job, held, handover=handover)
        finally:
            held.release()
            self.capacity.settle(ticket_id)
        if runner is not None:
            self.tell(tell, job)
            self.wait(job, runner)
        return True

    def drain(self) -> None:
        """Take no more jobs, and ask the running ones to save and leave."""
        self.capacity.is_draining = True
        for runner in list(self.runners.values()):
            if runner.poll() is None:
                runner.terminate()

    def _claim(self, queue: str, held: HeldSlots) -> tuple[Job, Handover | None] | None:
        names = [slot.name for slot in held.slots]
        with self.database.write() as session:
            session.connection()  # where writers queue up; how long that took is not time the lease has run
            claimed_at = boot_time()
            job = claim(session, queue, self.worker_id, names, self.settings.lease_seconds)
            if job is None:
                return None
            fault("claim_before_commit")
            return job, make_handover(session, job, claimed_at) if self.nursery else None

    def start(self, job: Job, held: HeldSlots, node_rank: int = 0, handover: Handover | None = None) -> Runner | None:
        """Start the runner of an attempt, or of one node of it; None where that was not possible."""
        try:
            runner: Runner | None = self.nursery.start_runner(job, held, node_rank, handover) if self.nursery else None
            runner = runner or start_runner(self.settings, job.id, job.attempt, held, node_rank)
        except OSError as error:  # no disk, no memory, no process: this machine's trouble, not the job's
            self._report_lost(job, f"{self.worker_id} could not start a runner: {error}")
            return None
        self.runners[tag_of(job.id, job.attempt, node_rank)] = runner
        if self.capacity.is_draining:  # asked between the claim and now, when `drain` did not know of it yet
            runner.terminate()
        return runner

    def tell(self, tell: Callable[[Job], None], job: Job) -> None:
        """Tell Flower what runs; it is not worth more than a try."""
        try:
            tell(job)
        except BrokerErrors as error:
            log.warning("Flower was not told what runs", job_id=job.id, error=str(error))

    def wait(self, job: Job, runner: Runner, node_rank: int = 0) -> str | None:
        """Wait until a runner has ended and nothing of it is left. Returns why it could not report, if so."""
        tag = tag_of(job.id, job.attempt, node_rank)
        try:
            exit_code = runner.wait()
        finally:
            self.runners.pop(tag, None)
        if exit_code == EXIT_ALREADY_RUNNING:  # the one that lives reports; if it dies too, its lease ends
            log.warning("a runner of this attempt lives already; left to it", tag=tag)
            return None
        if self.nursery is not None and exit_code == 0:
            self.nursery.after(job)
        if not kill_tagged(tag) and exit_code == 0:
            return None
        why = f"The runner on {self.worker_id} ended with {exit_code} before it could report"
        if node_rank == 0:  # the others report by their seats
            self._report_lost(job, why, exit_code)
        return why

    def _report_lost(self, job: Job, message: str, exit_code: int | None = None) -> None:
        """Say at once what the scheduler would find out when the lease ends."""
        try:
            with self.database.write() as session:
                finish(session, job.id, job.attempt, Outcome.RUNNER_LOST, message, exit_code)
            log.warning("runner lost", job_id=job.id, attempt=job.attempt, why=message)
        except StaleAttempt:
            pass  # the runner did report, or another attempt owns the job
        except DatabaseAway as error:
            log.warning("could not report a lost runner; the scheduler will", job_id=job.id, error=str(error))

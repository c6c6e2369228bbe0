"""The runner process: prepares one attempt, supervises it, and leaves nothing running behind."""

import argparse
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelyard.domain.jobs.lifecycle import Outcome, StaleAttempt
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.specs import KINDS
from modelyard.kit.database import Database
from modelyard.kit.faults import fault
from modelyard.kit.logs import get_logger, set_up_logs
from modelyard.kit.settings import Settings, get_settings
from modelyard.kit.storage import ArtifactStore, DamagedArtifact
from modelyard.workers.engine.handover import Handover
from modelyard.workers.engine.processes import ALIVE_FILE, EXIT_ALREADY_RUNNING, run_folder
from modelyard.workers.runner.gang import gang_of
from modelyard.workers.runner.inputs import MissingInput
from modelyard.workers.runner.keeping import CheckpointKeeper
from modelyard.workers.runner.lease import Lease, renewal_of
from modelyard.workers.runner.member import run_member
from modelyard.workers.runner.membership import Membership
from modelyard.workers.runner.outcome import Ending, describe_pause
from modelyard.workers.runner.outputs import keep_checkpoint
from modelyard.workers.runner.preparation import RESUME_FOLDER, Task, make_launch, prepare, take_over
from modelyard.workers.runner.ranks import Ranks, adopt_orphans
from modelyard.workers.runner.reading import EventReader, LogReader
from modelyard.workers.runner.stalls import watch_for_stalls
from modelyard.workers.runner.supervisor import Supervisor
from modelyard.workers.runner.time_limit import describe_time_limit

log = get_logger(__name__)


@dataclass(frozen=True)
class Birth:
    """What a runner has from its first moment on."""

    ranks: Ranks
    alive: int
    """The attempt's sign of life, see `hold`."""
    handover: Handover | None = None
    """What the worker knew, if it knew everything."""


class AlreadyRunning(SystemExit):
    """A process of this very attempt lives: a second runner would do its work twice. Ends this process, if not caught."""

    def __init__(self, folder: Path) -> None:
        super().__init__(EXIT_ALREADY_RUNNING)
        log.warning("not started: a process of this attempt is alive", locked=str(folder / ALIVE_FILE))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one attempt of a job, as a program. Exit code 0: reported, or no longer ours to report."""
    parser = argparse.ArgumentParser(description="Supervise one attempt of a job (started by a worker).")
    parser.add_argument("--job", required=True)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--node-rank", type=int, default=0)
    given = parser.parse_args(arguments)
    settings = get_settings()
    birth = Birth(Ranks(), hold(run_folder(settings, given.job, given.attempt, given.node_rank)))
    return run(settings, given.job, given.attempt, given.node_rank, birth)


def run(settings: Settings, job_id: str, attempt: int, node_rank: int, birth: Birth) -> int:
    """Run one attempt of a job, or one node of it. Returns the exit code, see `main`."""
    set_up_logs(settings.log_level)
    adopt_orphans()
    stop = _catch_signals()
    database = Database(settings.database)
    try:
        if node_rank:
            membership = Membership(database, job_id, attempt, node_rank)
            run_member(settings, membership, birth.ranks, birth.alive, stop)
        else:
            _run(settings, database, job_id, attempt, birth, stop)
    except StaleAttempt as error:
        log.warning("stopped", reason=str(error))
    finally:
        birth.ranks.kill()
        birth.ranks.let_go()
    return 0


def hold(folder: Path) -> int:
    """Lock the attempt's `alive.lock` for as long as any process that inherits the descriptor lives.

    Raises `AlreadyRunning`. Also tells a forked process's attempt, whose environment says nothing: see `find_tagged`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ALIVE_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise AlreadyRunning(folder) from None
    return descriptor


def _run(settings: Settings, database: Database, job_id: str, attempt: int, birth: Birth, stop: dict[str, Any]) -> None:
    folder = run_folder(settings, job_id, attempt)
    lease = Lease(renewal_of(database, job_id, attempt, settings.lease_seconds), settings.lease_seconds, birth.ranks.kill)
    handover = birth.handover if birth.handover and birth.handover.is_fresh(settings.lease_seconds) else None
    lease.start(handover.claimed_at if handover else None)
    store = ArtifactStore(settings.artifacts, settings.folder("cache") / "artifacts")
    try:
        if handover:
            task = take_over(settings, store, folder, handover)
        else:
            task = prepare(settings, database, store, folder, job_id, attempt)
    except (MissingInput, DamagedArtifact, FileNotFoundError) as error:
        lease.release()
        with database.write() as session:
            finish(session, job_id, attempt, Outcome.BAD_DATA, f"An input cannot be read: {error}")
        return
    job = task.job
    if _is_over_before_it_begins(database, task):
        lease.release()
        return
    launch = make_launch(settings, job, folder, birth.alive)
    lease.wait_until_held()
    fault("runner_after_start_before_ranks")
    gang = gang_of(database, job, settings.lease_seconds)
    if gang is not None:
        group = gang.gather(settings.advertise_host, lease)
        if isinstance(group, Ending):
            with database.write() as session:
                finish(session, job_id, attempt, group.outcome, group.message, group.exit_code, group.failing_rank)
            return lease.release()
        launch = replace(launch, group=group)
    birth.ranks.start(launch)
    logs = [LogReader(folder / f"rank-{rank}.log", rank) for rank in range(len(launch.slots))]
    keeper = CheckpointKeeper(lambda event: keep_checkpoint(database, store, job, folder, event, gang), folder)
    keeper.start()
    events = EventReader(folder / "events.jsonl")
    stalls = None if KINDS[job.kind].is_service else watch_for_stalls(settings, folder)
    files, left = (keeper, events, logs), task.time_left_seconds
    supervisor = Supervisor(settings, database, store, job, folder, birth.ranks, lease, *files, gang, left, stalls)
    stop["supervisor"] = supervisor
    if stop["requested"]:
        supervisor.drain_requested = True
    log.info("attempt started", job_id=job_id, attempt=attempt, resumed_from=task.resume.step if task.resume else None)
    supervisor.run()
    lease.release()
    fault("report_after_commit_before_exit")
    # Outputs are in the store and logs in the database; what remains on disk is for the curious.
    shutil.rmtree(folder / "outputs", ignore_errors=True)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    shutil.rmtree(folder / RESUME_FOLDER, ignore_errors=True)
    return None


def _is_over_before_it_begins(database: Database, task: Task) -> bool:
    """Report an attempt that has nothing left to do; False if it has."""
    job, resume, time_left = task.job, task.resume, task.time_left_seconds
    if resume is not None and job.pause_at_step is not None and resume.step >= job.pause_at_step:
        # An earlier attempt saved where the job pauses, and was lost before it could say so.
        with database.write() as session:
            finish(session, job.id, job.attempt, Outcome.PAUSED, describe_pause(job.pause_at_step))
        return True
    if time_left is not None and time_left <= 0:
        with database.write() as session:
            finish(session, job.id, job.attempt, Outcome.TIMEOUT, describe_time_limit(session, job))
        return True
    return False


def _catch_signals() -> dict[str, Any]:
    """SIGTERM and SIGINT mean: save, leave, hand the job over."""
    stop: dict[str, Any] = {"requested": False, "supervisor": None}

    def drain(*_: object) -> None:
        stop["requested"] = True
        if stop["supervisor"] is not None:
            stop["supervisor"].drain_requested = True

    signal.signal(signal.SIGTERM, drain)
    signal.signal(signal.SIGINT, drain)
    return stop


if __name__ == "__main__":
    sys.exit(main())

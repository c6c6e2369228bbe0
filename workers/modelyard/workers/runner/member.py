"""The runner of one further node of a gang: keeps its seat, runs its ranks, carries their logs, stores its part of checkpoints.

The attempt belongs to the runner of node 0. This one reports by leaving its seat, and goes as soon as the attempt is over.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.tables import Job
from modelyard.kit.database import DatabaseAway
from modelyard.kit.logs import get_logger
from modelyard.kit.settings import Settings
from modelyard.kit.storage import ArtifactStore, DamagedArtifact
from modelyard.workers.engine.processes import run_folder
from modelyard.workers.recipe import EXIT_SAVED
from modelyard.workers.runner.inputs import MissingInput, fetch_checkpoint, fetch_inputs, locate_inputs
from modelyard.workers.runner.keeping import STORE_PATIENCE_SECONDS, CheckpointKeeper
from modelyard.workers.runner.lease import Lease
from modelyard.workers.runner.membership import LostCheckpoint, Membership
from modelyard.workers.runner.outcome import Ending, Evidence, classify
from modelyard.workers.runner.outputs import keep_part
from modelyard.workers.runner.preparation import RESUME_FOLDER, make_launch, write_document
from modelyard.workers.runner.rank_environment import Launch
from modelyard.workers.runner.ranks import Ranks, wait_for_change
from modelyard.workers.runner.reading import EventReader, LogReader, last_lines
from modelyard.workers.runner.stalls import dump_stacks

TICK_SECONDS = 0.5
LAST_PART_SECONDS = 2.0
"""A node that failed has no longer to store what it saved before: node 0 waits to hear why."""
log = get_logger(__name__)


def run_member(settings: Settings, membership: Membership, ranks: Ranks, alive: int, stop: dict[str, Any]) -> None:
    """Run one node's part to its end. Raises `StaleAttempt` when the attempt is over."""
    folder = run_folder(settings, membership.job_id, membership.attempt, membership.node_rank)
    lease = Lease(membership.renewal(settings.lease_seconds), settings.lease_seconds, ranks.kill)
    lease.start()
    store = ArtifactStore(settings.artifacts, settings.folder("cache") / "artifacts")
    prepared = _prepare(settings, store, folder, membership, alive)
    if isinstance(prepared, Ending):
        membership.leave(prepared)
        return lease.release()
    job, launch = prepared
    lease.wait_until_held()
    ranks.start(launch)
    keeper = CheckpointKeeper(lambda event: keep_part(store, job, folder, membership.node_rank, event), folder)
    keeper.start()
    logs = [LogReader(folder / f"rank-{rank}.log", membership.node_rank * job.slots + rank) for rank in range(job.slots)]
    member = Member(settings, membership, folder, ranks, lease, keeper, EventReader(folder / "events.jsonl"), logs)
    stop["supervisor"] = member
    member.drain_requested = stop["requested"]
    log.info("node started", job_id=job.id, attempt=job.attempt, node_rank=membership.node_rank)
    member.run()
    lease.release()
    for name in ("outputs", "checkpoints", RESUME_FOLDER):
        shutil.rmtree(folder / name, ignore_errors=True)
    return None


def _prepare(
    settings: Settings, store: ArtifactStore, folder: Path, membership: Membership, alive: int
) -> tuple[Job, Launch] | Ending:
    """Fetch the inputs, wait for node 0's word, and write `run.json` as it did; or say why that is not possible."""
    job = membership.find_job()
    try:
        with membership.database.read() as session:
            located = locate_inputs(session, job.inputs)
        inputs = fetch_inputs(store, located, folder)
    except (MissingInput, DamagedArtifact, FileNotFoundError) as error:
        return Ending(Outcome.BAD_DATA, f"An input cannot be read: {error}")
    try:
        group, found = membership.wait_for_meeting(job.nodes)
        resume = fetch_checkpoint(found.checkpoint, store, found.nodes, folder / RESUME_FOLDER) if found else None
    except (LostCheckpoint, DamagedArtifact, FileNotFoundError) as error:
        # The next attempt looks at the checkpoints anew, and passes over those that are not whole.
        return Ending(Outcome.RUNNER_LOST, f"The checkpoint cannot be read: {error}")
    write_document(folder, job, inputs, resume, {})
    return job, replace(make_launch(settings, job, folder, alive), group=group)


@dataclass
class Member:
    """State of one supervised node."""

    settings: Settings
    membership: Membership
    folder: Path
    ranks: Ranks
    lease: Lease
    keeper: CheckpointKeeper
    events: EventReader
    logs: list[LogReader]
    drain_requested: bool = False
    stop_reason: str | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)
    _kill_after: float | None = None
    _has_asked: bool = False
    _has_told: bool = False
    _places: dict[int, str | None] | None = None
    """Where its ranks stood when they were asked."""
    _codes_before_end: list[int | None] | None = None
    """Exit codes when we ended the ranks: those without one had not failed by themselves."""

    def run(self) -> None:
        """Supervise until the ranks are gone, then leave the seat. Raises `StaleAttempt` when the attempt is over."""
        while not self.ranks.is_over():
            wait_for_change(self.ranks, TICK_SECONDS)
            self._tick()
        self._end_ranks()  # and whatever they themselves left behind
        while self._try(lambda: self._carry(is_last=True)) is not False:
            pass  # a long log comes in chunks; at the end all of it
        ending = self._ending()
        self.keeper.finish(LAST_PART_SECONDS if ending else STORE_PATIENCE_SECONDS)
        log.info("node ended", job_id=self.membership.job_id, outcome=ending and ending.outcome)
        self.membership.leave(ending)

    def _tick(self) -> None:
        self._try(self._carry)
        if self.drain_requested and not self._has_asked:
            self._has_asked = self._try(self._ask_all_to_leave) is True
        if self.membership.stall.is_set() and not self._has_told:
            self._has_told = self._try(self._tell_places) is True
        if self.lease.stop_requested is not None and self.stop_reason is None:
            # Ranks decide by what rank 0 reads; the others' files are for recipes that look on every node.
            self.stop_reason = self.lease.stop_requested
            (self.folder / "control").write_text(self.stop_reason, encoding="utf-8")
            self._kill_after = time.monotonic() + self.settings.stop_grace_seconds
        is_late = self._kill_after is not None and time.monotonic() > self._kill_after
        if self.ranks.has_failure() or is_late:
            self._end_ranks()

    def _carry(self, is_last: bool = False) -> bool:
        """Bring new log lines to the database and finished parts to the store. False if there was nothing."""
        events, offset = self.events.read()
        texts = [(reader, *reader.read(is_last)) for reader in self.logs]
        chunks = [(reader.rank, text) for reader, text, _ in texts if text]
        if chunks:
            self.membership.add_logs(chunks)
        for reader, _, end in texts:
            reader.offset = end
        self.events.offset = offset
        for event in events:
            if event["type"] == "checkpoint":
                self.keeper.keep(event)
            elif event["type"] == "error":
                self.errors.append(event)
        return bool(chunks or events)

    def _tell_places(self) -> bool:
        """The attempt stands still: bring the stacks of this node's ranks to the log, then say where they are."""
        if self._places is None:
            self._places = dump_stacks(self.ranks, [reader.path for reader in self.logs], self.logs[0].rank)
        while self._carry():
            pass
        self.membership.say_places(self._places)
        return True

    def _ask_all_to_leave(self) -> bool:
        self.membership.ask_all_to_leave()
        return True

    def _end_ranks(self) -> None:
        if self._codes_before_end is None:
            self._codes_before_end = self.ranks.exit_codes()
        self.ranks.kill()

    def _try(self, action: Callable[[], bool]) -> bool | None:
        """Do something; None while the database is away: it is done again later, the lease's deadline says how long."""
        try:
            return action()
        except DatabaseAway as error:
            log.warning("the database does not answer; the ranks go on", error=type(error).__name__)
            time.sleep(TICK_SECONDS)
            return None

    def _ending(self) -> Ending | None:
        """What this node knows of the attempt's end; None if its ranks ended well, or as they were asked to."""
        codes = self._codes_before_end or []
        if self.stop_reason is not None or all(code in {0, EXIT_SAVED} for code in codes):
            return None
        first_rank = self.logs[0].rank
        lines = {reader.rank: last_lines(reader.path) for reader in self.logs}
        return classify(
            Evidence(codes, self.errors, last_lines=lines, oom_kills=self.ranks.count_oom_kills(), first_rank=first_rank)
        )

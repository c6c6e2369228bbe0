"""The runner of one further node of a gang: keeps its seat, runs its ranks, carries their logs, stores its part of checkpoints.

The attempt belongs to the runner of node 0. This one reports by leaving its seat, and goes as soon as the attempt is over.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelyard.domain.jobs.lifecycle import Outcome, StaleAttempt
from modelyard.domain.jobs.repository import find_job, list_attempts
from modelyard.domain.jobs.seats import add_logs, ask_to_stop, leave, renew_seat, seat_of
from modelyard.domain.jobs.tables import Attempt, Checkpoint, Job
from modelyard.kit.database import Database, DatabaseAway
from modelyard.kit.logs import get_logger
from modelyard.kit.settings import Settings
from modelyard.kit.storage import ArtifactStore, DamagedArtifact
from modelyard.workers.engine.processes import run_folder
from modelyard.workers.runner.inputs import MissingInput, fetch_checkpoint, fetch_inputs, locate_inputs
from modelyard.workers.runner.keeping import CheckpointKeeper
from modelyard.workers.runner.lease import Lease
from modelyard.workers.runner.outcome import Ending, Evidence, classify
from modelyard.workers.runner.outputs import keep_part
from modelyard.workers.runner.preparation import RESUME_FOLDER, make_launch, write_document
from modelyard.workers.runner.rank_environment import Group, Launch
from modelyard.workers.runner.ranks import Ranks, wait_for_change
from modelyard.workers.runner.reading import EventReader, LogReader, last_lines

TICK_SECONDS = 0.5
MEETING_SECONDS = 0.25
"""How often it is asked whether node 0 said where to meet."""
log = get_logger(__name__)


@dataclass(frozen=True)
class Place:
    """Which node of which attempt."""

    job_id: str
    attempt: int
    node_rank: int


def run_member(settings: Settings, database: Database, place: Place, ranks: Ranks, alive: int, stop: dict[str, Any]) -> None:
    """Run one node's part to its end. Raises `StaleAttempt` when the attempt is over."""
    folder = run_folder(settings, place.job_id, place.attempt, place.node_rank)
    lease = Lease(_renewal_of(database, place, settings.lease_seconds), settings.lease_seconds, ranks.kill)
    lease.start()
    store = ArtifactStore(settings.artifacts, settings.folder("cache") / "artifacts")
    try:
        job, launch = _prepare(settings, database, store, folder, place, alive)
    except (MissingInput, DamagedArtifact, FileNotFoundError) as error:
        _leave(database, place, Ending(Outcome.BAD_DATA, f"An input cannot be read: {error}"))
        return lease.release()
    lease.wait_until_held()
    ranks.start(launch)
    keeper = CheckpointKeeper(lambda event: keep_part(store, job, folder, place.node_rank, event), folder)
    keeper.start()
    first_rank = place.node_rank * job.slots
    logs = [LogReader(folder / f"rank-{rank}.log", first_rank + rank) for rank in range(job.slots)]
    member = Member(settings, database, place, folder, ranks, lease, keeper, EventReader(folder / "events.jsonl"), logs)
    stop["supervisor"] = member
    member.drain_requested = stop["requested"]
    log.info("node started", job_id=job.id, attempt=job.attempt, node_rank=place.node_rank)
    member.run()
    lease.release()
    for name in ("outputs", "checkpoints", RESUME_FOLDER):
        shutil.rmtree(folder / name, ignore_errors=True)
    return None


@dataclass
class Member:
    """State of one supervised node."""

    settings: Settings
    database: Database
    place: Place
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
    _asked: bool = False

    def run(self) -> None:
        """Supervise until the ranks are gone, then leave the seat. Raises `StaleAttempt` when the attempt is over."""
        while not self.ranks.is_over():
            wait_for_change(self.ranks, TICK_SECONDS)
            self._tick()
        self.ranks.kill()  # whatever the ranks themselves left behind
        while self._try(lambda: self._carry(is_last=True)) is not False:
            pass  # a long log comes in chunks; at the end all of it
        self.keeper.finish()
        ending = self._ending()
        log.info("node ended", job_id=self.place.job_id, node_rank=self.place.node_rank, outcome=ending and ending.outcome)
        _leave(self.database, self.place, ending)

    def _tick(self) -> None:
        self._try(self._carry)
        if self.drain_requested and not self._asked:
            self._try(self._ask_all_to_leave)
        if self.lease.stop_requested is not None and self.stop_reason is None:
            # Ranks decide by what rank 0 reads; the others' files are for recipes that look on every node.
            self.stop_reason = self.lease.stop_requested
            (self.folder / "control").write_text(self.stop_reason, encoding="utf-8")
            self._kill_after = time.monotonic() + self.settings.stop_grace_seconds
        is_late = self._kill_after is not None and time.monotonic() > self._kill_after
        if self.ranks.has_failure() or is_late:
            self.ranks.kill()

    def _carry(self, is_last: bool = False) -> bool:
        """Bring new log lines to the database and finished parts to the store. False if there was nothing."""
        events, offset = self.events.read()
        texts = [(reader, *reader.read(is_last)) for reader in self.logs]
        chunks = [(reader.rank, text) for reader, text, _ in texts if text]
        if chunks:
            with self.database.write() as session:
                add_logs(session, seat_of(*_key(self.place)), chunks, time.time())
        for reader, _, end in texts:
            reader.offset = end
        self.events.offset = offset
        for event in events:
            if event["type"] == "checkpoint":
                self.keeper.keep(event)
            elif event["type"] == "error":
                self.errors.append(event)
        return bool(chunks or events)

    def _ask_all_to_leave(self) -> bool:
        with self.database.write() as session:
            ask_to_stop(session, self.place.job_id, self.place.attempt, "drained")
        self._asked = True
        return True

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
        codes = [code if code is not None else -9 for code in self.ranks.exit_codes()]
        if self.stop_reason is not None or all(code in {0, 75} for code in codes):
            return None
        lines = {reader.rank: last_lines(reader.path) for reader in self.logs}
        return classify(Evidence(codes, self.errors, last_lines=lines, first_rank=self.logs[0].rank))


def _prepare(
    settings: Settings, database: Database, store: ArtifactStore, folder: Path, place: Place, alive: int
) -> tuple[Job, Launch]:
    """Fetch the inputs, wait for node 0's word, and write `run.json` as it did."""
    with database.read() as session:
        job = find_job(session, place.job_id)
        if job is None or job.attempt != place.attempt:
            raise StaleAttempt(place.job_id, place.attempt)
        located = locate_inputs(session, job.inputs)
    inputs = fetch_inputs(store, located, folder)
    attempt, checkpoint = _wait_for_meeting(database, place)
    resume = fetch_checkpoint(checkpoint, store, job.nodes, folder / RESUME_FOLDER) if checkpoint else None
    write_document(folder, job, inputs, resume, {})
    address, _, port = (attempt.rendezvous or "").rpartition(":")
    launch = make_launch(settings, job, folder, alive)
    return job, replace(launch, group=Group(job.nodes, place.node_rank, address, int(port)))


def _wait_for_meeting(database: Database, place: Place) -> tuple[Attempt, Checkpoint | None]:
    """Return once node 0 said where the ranks meet; with the checkpoint all continue from. The lease ends the wait."""
    while True:
        try:
            with database.read() as session:
                attempt = next(each for each in list_attempts(session, place.job_id) if each.seq == place.attempt)
                if attempt.rendezvous is not None:
                    return attempt, session.get(Checkpoint, attempt.resumed_from) if attempt.resumed_from else None
        except DatabaseAway as error:
            log.warning("waiting for the database", job_id=place.job_id, error=type(error).__name__)
        time.sleep(MEETING_SECONDS)


def _renewal_of(database: Database, place: Place, seconds: float) -> Callable[[], str | None]:
    def renew_once() -> str | None:
        with database.write() as session:
            return renew_seat(session, *_key(place), seconds).stop_requested

    return renew_once


def _leave(database: Database, place: Place, ending: Ending | None) -> None:
    """Say that no process of this node is left, now or as soon as the database is back."""
    more = (ending.outcome, ending.message, ending.exit_code, ending.failing_rank) if ending else (None, None, 0, None)
    while True:
        try:
            with database.write() as session:
                return leave(session, seat_of(*_key(place)), *more)
        except DatabaseAway as error:
            log.warning("waiting for the database", job_id=place.job_id, error=type(error).__name__)
            time.sleep(TICK_SECONDS)


def _key(place: Place) -> tuple[str, int, int]:
    return place.job_id, place.attempt, place.node_rank

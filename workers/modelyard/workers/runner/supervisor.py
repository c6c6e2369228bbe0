"""One attempt from start to end, seen by its supervisor.

The loop: carry events and logs to the database, pass on wishes to stop, until the ranks are gone. If the database does
not answer, the ranks go on and everything waits on disk; the lease, renewed by a thread of its own, says for how long.
"""

import itertools
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelyard.domain.deployments.repository import list_superseded, mark_ready
from modelyard.domain.jobs.lifecycle import JobState, Outcome
from modelyard.domain.jobs.ownership import finish, own
from modelyard.domain.jobs.recording import Batch, record
from modelyard.domain.jobs.repository import find_job
from modelyard.domain.jobs.stopping import cancel
from modelyard.domain.jobs.tables import Job
from modelyard.domain.registry.repository import Made
from modelyard.domain.specs import KINDS
from modelyard.kit.database import Database, DatabaseAway, database_now
from modelyard.kit.faults import fault
from modelyard.kit.logs import get_logger
from modelyard.kit.settings import Settings
from modelyard.kit.storage import ArtifactStore
from modelyard.workers.runner.gang import Gang
from modelyard.workers.runner.keeping import RETRY_SECONDS, STORE_PATIENCE_SECONDS, CheckpointKeeper
from modelyard.workers.runner.lease import Lease
from modelyard.workers.runner.outcome import Ending, Evidence, classify
from modelyard.workers.runner.outputs import register_outputs, store_outputs
from modelyard.workers.runner.ranks import Ranks, wait_for_change
from modelyard.workers.runner.reading import EventReader, LogReader, last_lines
from modelyard.workers.runner.stalls import StallWatch, dump_stacks, name_silent
from modelyard.workers.runner.time_limit import describe_time_limit

TICK_SECONDS = 0.5
CHUNKS_A_TICK = 4
"""A recipe that reports faster than the database takes it must not keep the supervisor from anything else."""
ACTED_ON = frozenset({"checkpoint", "ready", "output", "error"})
NOTHING_TO_SAVE_SECONDS = 2.0
"""Recipes that start anew anyway need not be waited for."""
log = get_logger(__name__)


@dataclass
class Supervisor:
    """State of one supervised attempt."""

    settings: Settings
    database: Database
    store: ArtifactStore
    job: Job
    folder: Path
    ranks: Ranks
    lease: Lease
    keeper: CheckpointKeeper
    events: EventReader
    logs: list[LogReader]
    gang: Gang | None = None
    """The other nodes, if the job has several."""
    time_left_seconds: float | None = None
    """Of the job's time limit, when the ranks started."""
    stalls: StallWatch | None = None
    """None for a service, which rests until it is asked something."""
    stop_reason: str | None = None
    drain_requested: bool = False
    seen: list[dict[str, Any]] = field(default_factory=list)
    """Events that matter at the end: outputs and errors."""
    _pending: tuple[Batch, list[tuple[LogReader, int]]] | None = None
    """What was read and not yet seen to be written: tried again as it is, so that the database knows it if it has it already."""
    _to_do: list[dict[str, Any]] = field(default_factory=list)
    """Recorded events not yet acted upon: a database that goes away in between loses none."""
    _kill_after: float | None = None
    _started_at: float = field(default_factory=time.monotonic)
    _is_ready: bool = False
    _was_ended_by_gang: bool = False
    _codes_before_end: list[int | None] | None = None
    """Exit codes when we ended the ranks: those without one had not failed by themselves."""

    def run(self) -> None:
        """Supervise until the ranks are gone, then report. Raises `StaleAttempt` when the job has another owner."""
        while not self.ranks.is_over():
            wait_for_change(self.ranks, TICK_SECONDS, lambda: self._new_wish() is not None)
            self._tick()
        self.ranks.kill()  # whatever the ranks themselves left behind
        ending = self._ending()
        log.info("attempt ended", job_id=self.job.id, outcome=ending.outcome, message=ending.message)
        self._insist(lambda: self._report(ending))

    def _tick(self) -> None:
        try:
            self._carry()
        except DatabaseAway as error:
            log.warning("the database does not answer; the job goes on", job_id=self.job.id, error=type(error).__name__)
        wish = self._new_wish()
        if wish is not None:
            self._ask_to_stop(wish)
        self._check_deadlines()
        self._check_stall()
        if self.ranks.has_failure():
            self._end_ranks()
        elif self.gang is not None and self.gang.has_failure():
            self._was_ended_by_gang = True
            self._end_ranks()

    def _new_wish(self) -> str | None:
        """Why the ranks should leave, if they were not told yet. Who is saving may still be told not to."""
        wish = self.lease.stop_requested or ("drained" if self.drain_requested else None)
        return wish if wish != self.stop_reason and (self.stop_reason is None or wish == "discarded") else None

    def _carry(self, is_last: bool = False) -> None:
        """Bring new events and log lines to the database, each event exactly once, then do what they ask for."""
        for _ in itertools.count() if is_last else range(CHUNKS_A_TICK):
            # What is long comes in chunks; at the end all of it.
            if not self._record(is_last) or not (is_last or self.events.is_behind()):
                break
        while self._to_do:
            self._act_on(self._to_do[0])
            self._to_do.pop(0)

    def _record(self, is_last: bool) -> bool:
        """Write one batch. False if there was nothing to write."""
        if self._pending is None:
            self._pending = self._read(is_last)
        batch, log_offsets = self._pending
        if batch.is_empty():
            self._pending = None
            return False
        with self.database.write() as session:
            record(session, self.job.id, self.job.attempt, batch, time.time())
        self._pending = None
        self.events.offset = batch.events_offset or 0
        for reader, offset in log_offsets:
            reader.offset = offset
        self._to_do += [event for event in batch.events if event["type"] in ACTED_ON]
        return True

    def _read(self, is_last: bool) -> tuple[Batch, list[tuple[LogReader, int]]]:
        events, events_offset = self.events.read()
        texts = [(reader, *reader.read(is_last)) for reader in self.logs]
        batch = Batch(events, events_offset, [(reader.rank, text) for reader, text, _ in texts if text])
        return batch, [(reader, offset) for reader, _, offset in texts]

    def _act_on(self, event: dict[str, Any]) -> None:
        if event["type"] == "checkpoint":
            self.keeper.keep(event)
        elif event["type"] == "ready":
            self._announce(event["url"])
        elif event["type"] in {"output", "error"}:
            self.seen.append(event)

    def _announce(self, url: str) -> None:
        """A model server answers: open it to requests, and retire those it replaces."""
        self._is_ready = True
        with self.database.write() as session:
            deployment = mark_ready(session, self.job.id, self.job.attempt, url)
            outputs = {"deployment": {"type": "deployment", "id": deployment.id, "name": deployment.name}}
            own(session, self.job.id, self.job.attempt, ready_at=database_now(), outputs=outputs)
            for old in list_superseded(session, deployment):
                replaced = find_job(session, old.job_id, for_update=True)
                if replaced is not None and not JobState(replaced.state).is_finished():
                    cancel(session, replaced)

    def _ask_to_stop(self, reason: str) -> None:
        self.stop_reason = reason
        (self.folder / "control").write_text(reason, encoding="utf-8")
        kind = KINDS[self.job.kind]
        has_something_to_save = (kind.can_resume and reason != "discarded") or kind.is_service
        grace = self.settings.stop_grace_seconds if has_something_to_save else NOTHING_TO_SAVE_SECONDS
        self._kill_after = time.monotonic() + grace

    def _check_deadlines(self) -> None:
        now = time.monotonic()
        if self._kill_after is not None and now > self._kill_after:
            self._end_ranks()
        if self.time_left_seconds is not None and now - self._started_at > self.time_left_seconds and self.stop_reason is None:
            self._ask_to_stop("timeout")
        limit = self.job.spec.get("ready_within_seconds")
        if limit and not self._is_ready and self.stop_reason is None and now - self._started_at > limit:
            self.seen.append({"type": "error", "reason": "timeout", "message": f"The server was not ready within {limit} s"})
            self._end_ranks()

    def _check_stall(self) -> None:
        """End a run that stands still; its ranks say where they are before."""
        stall = self.stalls.look() if self.stalls else None
        if stall is None or self.stop_reason is not None or self.ranks.is_over():
            return
        log.warning("the run stands still", job_id=self.job.id, phase=stall.phase, silent_seconds=stall.silent_seconds)
        silent = name_silent(self._ask_where())
        rank, why = silent or (None, None)
        message = "; ".join(part for part in (stall.describe(), why) if part)
        self.seen.append({"type": "error", "reason": str(Outcome.HANG), "message": message, "rank": rank})
        self._end_ranks()

    def _ask_where(self) -> dict[int, str | None]:
        """Have the ranks of all nodes write their stacks to their logs; returns where each is."""
        if self.gang is not None:
            self.gang.say_stalled()
        places = dump_stacks(self.ranks, [reader.path for reader in self.logs])
        return {**places, **self.gang.wait_for_places()} if self.gang is not None else places

    def _end_ranks(self) -> None:
        if self._codes_before_end is None:
            self._codes_before_end = self.ranks.exit_codes()
        self.ranks.kill()

    def _ending(self) -> Ending:
        self._insist(lambda: self._carry(is_last=True))
        if self.gang is not None:
            self.gang.settle(has_failed=self.ranks.has_failure())
        self.keeper.finish()
        own = classify(
            Evidence(
                exit_codes=self._own_codes(),
                errors=[event for event in self.seen if event["type"] == "error"],
                stop_reason=self.stop_reason,
                last_lines={reader.rank: last_lines(reader.path) for reader in self.logs},
                is_service=KINDS[self.job.kind].is_service,
                oom_kills=self.ranks.count_oom_kills(),
                pause_at_step=self.job.pause_at_step,
            )
        )
        return own if self.gang is None else self.gang.judge(None if self._was_ended_by_gang else own)

    def _own_codes(self) -> list[int | None]:
        """Exit codes, None for ranks that lived until we killed them because of another."""
        codes = self.ranks.exit_codes()
        before = self._codes_before_end or codes
        return [None if was is None and code == -signal.SIGKILL else code for was, code in zip(before, codes, strict=True)]

    def _report(self, ending: Ending) -> None:
        outputs = [event for event in self.seen if event["type"] == "output"]
        succeeded = ending.outcome is Outcome.SUCCEEDED
        made = self._store(outputs) if succeeded else {}
        fault("outputs_after_store_before_report")
        with self.database.write() as session:
            job = own(session, self.job.id, self.job.attempt)
            values: dict[str, Any] = {"outputs": register_outputs(session, job, made)} if made else {}
            message = describe_time_limit(session, job) if self._is_over_time(ending) else ending.message
            code, rank = ending.exit_code, ending.failing_rank
            finish(session, job.id, job.attempt, ending.outcome, message, code, rank, **values)

    def _is_over_time(self, ending: Ending) -> bool:
        return self.stop_reason == "timeout" and ending.outcome is Outcome.TIMEOUT

    def _store(self, outputs: list[dict[str, Any]]) -> dict[str, Made]:
        """Store what was made, through an outage of the store of up to `STORE_PATIENCE_SECONDS`."""
        deadline = time.monotonic() + STORE_PATIENCE_SECONDS
        while True:
            try:
                return store_outputs(self.store, self.job, self.folder, outputs)
            except Exception as error:  # each store has errors of its own
                log.warning("outputs not stored; trying again", job_id=self.job.id, error=f"{type(error).__name__}: {error}")
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_SECONDS)

    def _insist(self, action: Callable[[], None]) -> None:
        """Do something now or as soon as the database is back; the lease's deadline ends the wait if it must."""
        while True:
            try:
                action()
                return
            except DatabaseAway as error:
                log.warning("waiting for the database", job_id=self.job.id, error=type(error).__name__)
                time.sleep(TICK_SECONDS)

"""What became of every accepted job, by the database's rows and by what the ranks themselves wrote down."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from sqlmodel import select

from modelyard.domain.invariants.examination import Examiner
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.tables import Attempt, Job, MetricPoint
from modelyard.kit.broker import Broker, BrokerErrors
from modelyard.kit.database import Database
from modelyard.kit.settings import Settings
from modelyard.kit.storage import ArtifactStore

CLOCK_TOLERANCE_SECONDS = 0.05


@dataclass
class Verdict:
    """Figures of one run, and everything that is wrong."""

    seed: int
    database: str
    seconds: float
    injected: dict[str, int]
    jobs: int = 0
    attempts: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    doubled_answers: int = 0
    recovery_seconds_median: float | None = None
    recovery_seconds_max: float | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Whether nothing was lost and nothing was done twice."""
        return not self.problems

    def document(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {"ok": self.is_ok, **asdict(self)}


@dataclass(frozen=True)
class Witness:
    """One attempt with what its ranks wrote into `events.jsonl` while it lived. Times in seconds since the epoch."""

    attempt: Attempt
    times: tuple[float, ...]


def judge(
    verdict: Verdict, database: Database, settings: Settings, accepted: Mapping[str, str], called_off: Collection[str] = ()
) -> None:
    """Fill in the figures and the problems. `accepted`: key -> job; `called_off`: keys of jobs that were cancelled on purpose."""
    with database.read() as session:
        jobs = {job.id: job for job in session.exec(select(Job)).all()}
        attempts = session.exec(select(Attempt).order_by(Attempt.job_id, Attempt.seq)).all()  # type: ignore[arg-type]
        points = session.exec(select(MetricPoint).where(MetricPoint.name == "loss")).all()
    by_job = read_witnesses(settings.data_dir, attempts)
    verdict.jobs, verdict.attempts = len(jobs), len(attempts)
    verdict.outcomes = dict(Counter(str(attempt.outcome) for attempt in attempts))
    recoveries = [gap for each in by_job.values() for gap in find_recoveries([witness.attempt for witness in each])]
    if recoveries:
        verdict.recovery_seconds_median, verdict.recovery_seconds_max = round(median(recoveries), 1), round(max(recoveries), 1)
    verdict.problems += list(find_lost(jobs, accepted, called_off))
    verdict.problems += [problem for id_, each in by_job.items() for problem in find_overlaps(id_, each)]
    verdict.problems += list(find_doubled_points(points))
    verdict.problems += list(find_missing_steps(jobs.values(), points))
    verdict.problems += list(find_violations(database, settings))


def read_witnesses(data_dir: Path, attempts: Sequence[Attempt]) -> dict[str, list[Witness]]:
    """Attempts by job, each with what its ranks wrote so far; in the order they are given in."""
    by_job: dict[str, list[Witness]] = defaultdict(list)
    for attempt in attempts:
        by_job[attempt.job_id].append(Witness(attempt, read_times(data_dir, attempt)))
    return by_job


def read_times(data_dir: Path, attempt: Attempt) -> tuple[float, ...]:
    """When an attempt's ranks reported something, by their own files."""
    path = data_dir / "runs" / attempt.job_id / str(attempt.seq) / "events.jsonl"
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return tuple(time for time in map(_time_of, lines) if time is not None)


def _time_of(line: str) -> float | None:
    try:
        return float(json.loads(line)["at"])
    except (ValueError, KeyError, TypeError):
        return None  # cut off by a kill


def find_lost(jobs: Mapping[str, Job], accepted: Mapping[str, str], called_off: Collection[str] = ()) -> Iterator[str]:
    """Every accepted job is there once and succeeded, or was called off and cancelled; there are no others.

    One that lost its worker three times in a row is quarantined, as it should be; then it was tried again, and that counts.
    """
    for key, id_ in accepted.items():
        if id_ not in jobs:
            yield f"{key} was accepted as {id_}, and there is no such job"
            continue
        ends_well = {JobState.SUCCEEDED, *({JobState.CANCELLED} if key in called_off else ())}
        if f"{key}, tried again" in accepted:
            ends_well.add(JobState.QUARANTINED)
        if jobs[id_].state not in ends_well:
            yield f"{key}, accepted as {id_}, is {jobs[id_].state}: {jobs[id_].reason} {jobs[id_].message}"
    for id_ in jobs.keys() - set(accepted.values()):
        yield f"there is a job {id_} ({jobs[id_].name}) beyond those that were accepted"


def find_overlaps(job_id: str, witnesses: Sequence[Witness]) -> Iterator[str]:
    """No rank of an attempt did anything after the next attempt had begun."""
    for earlier, later in pairwise(witnesses):
        late = [time for time in earlier.times if time > later.attempt.started_at + CLOCK_TOLERANCE_SECONDS]
        if late:
            seconds = max(late) - later.attempt.started_at
            yield (
                f"job {job_id}: ranks of attempt {earlier.attempt.seq} reported {len(late)} times, "
                f"up to {seconds:.1f} s after attempt {later.attempt.seq} had begun"
            )


def find_recoveries(attempts: Sequence[Attempt]) -> Iterator[float]:
    """Seconds from the last sign of life of an attempt that was lost until the next one began."""
    for earlier, later in pairwise(attempts):
        if earlier.outcome in {"node_lost", "runner_lost"}:
            yield later.started_at - (earlier.heartbeat_at or earlier.started_at)


def find_doubled_points(points: Sequence[MetricPoint]) -> Iterator[str]:
    """No step is recorded twice by one attempt."""
    for (job_id, attempt, step), times in Counter((each.job_id, each.attempt, each.step) for each in points).items():
        if times > 1:
            yield f"job {job_id}: step {step} of attempt {attempt} is recorded {times} times"


def find_missing_steps(jobs: Any, points: Sequence[MetricPoint]) -> Iterator[str]:
    """Every step of a training that succeeded is recorded."""
    seen: dict[str, set[int]] = defaultdict(set)
    for point in points:
        seen[point.job_id].add(point.step)
    for job in jobs:
        # One tried again goes on where the job before it stopped.
        if job.kind == "pretrain" and job.state == JobState.SUCCEEDED and job.retry_of is None:
            missing = set(range(1, job.spec["steps"] + 1)) - seen[job.id]
            if missing:
                yield f"job {job.id}: {len(missing)} steps were never recorded, the first is {min(missing)}"


def find_violations(database: Database, settings: Settings) -> Iterator[str]:
    """What the platform's own examination finds, every artifact read."""
    store = ArtifactStore(settings.artifacts, settings.folder("cache") / "artifacts")
    examiner = Examiner(database, store, Broker(settings).count_tickets, BrokerErrors, lambda: None, is_deep=True)
    for violation in examiner.examine().violations:
        yield f"{violation.invariant}: {violation.message}"

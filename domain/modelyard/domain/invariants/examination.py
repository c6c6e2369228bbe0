"""One examination of all jobs, while they run: what looks wrong is looked at twice before it counts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from modelyard.domain.invariants.checks import check_job
from modelyard.domain.invariants.facts import JobFacts, Violation
from modelyard.domain.invariants.repository import compare_tallies, find_artifacts, list_jobs, oldest_claimable
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.tallies import count_claimable
from modelyard.domain.specs import KINDS
from modelyard.kit.database import Database, read_clock
from modelyard.kit.storage import ArtifactStore, DamagedArtifact
from modelyard.kit.verification import verify_stored

CountTickets = Callable[[Mapping[str, int]], Mapping[str, int]]


@dataclass(frozen=True)
class Report:
    """What was looked at, and what is wrong."""

    checked: dict[str, int]
    """`jobs`, `attempts`, `artifacts`, `queues` -> how many."""
    violations: tuple[Violation, ...]
    skipped: tuple[str, ...] = ()
    """What could not be looked at, and why."""

    @property
    def is_ok(self) -> bool:
        """Whether nothing is wrong with what was looked at."""
        return not self.violations


@dataclass
class Examiner:
    """Looks at the rows of one platform, its tickets and its artifacts."""

    database: Database
    store: ArtifactStore
    count_tickets: CountTickets
    """Waiting jobs per queue -> tickets per queue. May raise `OSError` or the broker's own errors."""
    broker_errors: tuple[type[Exception], ...]
    wait: Callable[[], None]
    """Lets so much time pass that a job between two places has arrived: a few intervals of the scheduler."""
    is_deep: bool = False
    """Compare contents, not only sizes."""
    _skipped: list[str] = field(default_factory=list)

    def examine(self) -> Report:
        """Look once; after a wait look again at what seemed wrong, and report what seemed wrong both times."""
        checked = {"jobs": 0, "attempts": 0, "artifacts": 0, "queues": 0}
        found = self._look(checked)
        if found:
            self.wait()
            suspects = sorted({each.job_id for each in found if each.job_id is not None})
            before = {(each.invariant, each.job_id) for each in found}
            found = [each for each in self._look({}, suspects) if (each.invariant, each.job_id) in before]
        return Report(checked, tuple(found), tuple(dict.fromkeys(self._skipped)))

    def _look(self, checked: dict[str, int], only: Sequence[str] | None = None) -> list[Violation]:
        violations, after = [*self._check_tickets(checked), *self._check_tallies()], ""
        while True:
            with self.database.read() as session:
                now = read_clock(session)
                page = list_jobs(session, after, only)
                jobs, artifacts = page.jobs, find_artifacts(session, page.jobs)
            if page.last is None:
                return violations
            violations += page.unreadable
            violations += [each for job in jobs for each in check_job(job, now)]
            violations += [each for job in jobs for each in _check_outputs(job)]
            violations += [each for (job_id, what), key in artifacts.items() for each in self._check_artifact(job_id, what, key)]
            _count(
                checked,
                jobs=len(jobs) + len(page.unreadable),
                attempts=sum(len(job.attempts) for job in jobs),
                artifacts=len(artifacts),
            )
            after = page.last

    def _check_tickets(self, checked: dict[str, int]) -> list[Violation]:
        """Every job that could be claimed has a ticket in Redis."""
        with self.database.read() as session:
            waiting = count_claimable(session)
        try:
            tickets = self.count_tickets(waiting)
        except self.broker_errors as error:
            self._skipped.append(f"tickets: the broker does not answer ({type(error).__name__})")
            return []
        _count(checked, queues=len(waiting))
        missing = {queue: number - tickets.get(queue, 0) for queue, number in waiting.items()}
        return [self._describe_missing(queue, number) for queue, number in missing.items() if number > 0]

    def _check_tallies(self) -> list[Violation]:
        """The numbers kept of jobs are the numbers of jobs."""
        with self.database.read() as session:
            wrong = compare_tallies(session)
        return [
            Violation("tallies_are_right", None, f"{tally} jobs are noted as {state} in {queue}, and there are {count}")
            for (_, queue, state), (count, tally) in wrong.items()
        ]

    def _describe_missing(self, queue: str, number: int) -> Violation:
        with self.database.read() as session:
            oldest = oldest_claimable(session, queue)
        return Violation("waiting_jobs_have_tickets", oldest, f"queue {queue}: {number} waiting jobs have no ticket in Redis")

    def _check_artifact(self, job_id: str, what: str, key: str | None) -> list[Violation]:
        if key is None:
            return [Violation("outputs_are_registered", job_id, f"{what} of job {job_id} is not registered")]
        try:
            verify_stored(self.store, key, self.is_deep)
        except DamagedArtifact as error:
            return [Violation("artifacts_are_whole", job_id, f"{what} of job {job_id}: {error}")]
        return []


def _check_outputs(job: JobFacts) -> list[Violation]:
    """A succeeded job made something, unless it is a service."""
    kind = KINDS.get(job.kind)
    if job.state is not JobState.SUCCEEDED or kind is None or kind.is_service or job.outputs:
        return []
    return [Violation("outputs_are_registered", job.id, f"{job.kind} job {job.id} succeeded and has no outputs")]


def _count(checked: dict[str, int], **more: int) -> None:
    for name, number in more.items():
        checked[name] = checked.get(name, 0) + number

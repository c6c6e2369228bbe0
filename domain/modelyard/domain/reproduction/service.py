"""Submitting a reproduction, and gathering what it is judged by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlmodel import Session, col, select

from modelyard.domain.errors import Conflict, NotFound
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.repository import find_job, list_attempts
from modelyard.domain.jobs.resubmission import RetryChanges, request_again
from modelyard.domain.jobs.submission import submit
from modelyard.domain.jobs.tables import Attempt, Job, MetricPoint
from modelyard.domain.registry.tables import TABLES
from modelyard.domain.reproduction.comparison import Results

ReadFiles = Callable[[str], Mapping[str, str]]
"""Artifact key -> SHA-256 of each file; raises `FileNotFoundError` where the artifact is gone."""


class NotReproducible(Conflict):
    """The job cannot be run again to the same end; the sentence says why."""

    code = "not_reproducible"

    def __init__(self, job: Job, why: str) -> None:
        super().__init__(f"Job {job.id} {why}", field="job_id", value=job.id)


class NothingToCompare(Conflict):
    """An output of one of the two jobs is gone."""

    code = "nothing_to_compare"

    def __init__(self, job: Job, output: str) -> None:
        super().__init__(
            f"The output {output} of job {job.id} is gone, so nobody can say whether it came out the same; "
            "reproduce a job whose outputs are still there",
            field="job_id",
            value=job.id,
        )


class NoManifest(NotFound):
    """No attempt of the job said what it ran with."""

    code = "no_manifest"


@dataclass(frozen=True)
class Sources:
    """What a finished job left in the database for a comparison."""

    points: dict[tuple[int, str], float | None]
    artifact_keys: dict[str, str]
    """Output -> where its files are."""
    manifest: dict[str, Any] | None


def reproduce(session: Session, job: Job) -> Job:
    """Submit a job that succeeded once more: the same spec and the same inputs, from the start. Raises `NotReproducible`."""
    if job.state != JobState.SUCCEEDED:
        raise NotReproducible(job, f"is {job.state}; only a job that succeeded has something to compare with")
    if job.reused_from:
        raise NotReproducible(job, f"took over the outputs of {job.reused_from}; reproduce that one")
    request = request_again(job, RetryChanges())
    if not request.spec.is_reproducible():
        raise NotReproducible(job, f"is of the kind {job.kind}, which depends on more than its spec and inputs")
    # Where it begins is looked at anew: the checkpoint may be gone.
    again = replace(request, retry_of=None, reproduces=job.id, start=None, start_at=None, avoid_hosts=())
    return submit(session, job.project_id, again)


def find_manifest(session: Session, job: Job) -> Attempt:
    """Return the newest attempt that has a manifest. Raises `NoManifest`."""
    for attempt in reversed(list_attempts(session, job.id)):
        if attempt.manifest is not None:
            return attempt
    raise NoManifest(
        f"Job {job.id} has no manifest: it is of the kind {job.kind} and {job.state}; training jobs write one when they start",
        field="job_id",
        value=job.id,
    )


def get_original_or_raise(session: Session, job: Job) -> Job:
    """Return the job that `job` reproduces. Raises `NotFound`."""
    original = find_job(session, job.reproduces) if job.reproduces else None
    if original is None:
        message = f"Job {job.id} reproduces no other; POST /v1/jobs/{job.id}/reproduce makes a job that reproduces this one"
        raise NotFound(message, field="job_id", value=job.id)
    return original


def read_sources(session: Session, job: Job) -> Sources:
    """Read a job's points, where its outputs are, and its manifest. Raises `NothingToCompare`."""
    manifests = [attempt.manifest for attempt in list_attempts(session, job.id) if attempt.manifest is not None]
    return Sources(_read_points(session, job.id), _locate_outputs(session, job), manifests[-1] if manifests else None)


def gather(job: Job, sources: Sources, read_files: ReadFiles) -> Results:
    """Add the files' digests, which only the store knows. Raises `NothingToCompare`."""
    files: dict[tuple[str, str], str] = {}
    for output, key in sources.artifact_keys.items():
        try:
            files |= {(output, name): digest for name, digest in read_files(key).items()}
        except FileNotFoundError:
            raise NothingToCompare(job, output) from None
    return Results(sources.points, files, sources.manifest)


def _read_points(session: Session, job_id: str) -> dict[tuple[int, str], float | None]:
    query = select(MetricPoint.step, MetricPoint.name, MetricPoint.value).where(MetricPoint.job_id == job_id)
    # A resumed attempt repeats steps after its checkpoint: what it reports replaces what the lost one had said.
    ordered = query.order_by(col(MetricPoint.attempt), col(MetricPoint.id))
    return {(step, name): value for step, name, value in session.exec(ordered)}


def _locate_outputs(session: Session, job: Job) -> dict[str, str]:
    keys = {}
    for output, made in job.outputs.items():
        row = session.get(TABLES[made["type"]], made["id"])
        if row is None:
            raise NothingToCompare(job, f"{output} ({made['type']} {made['id']})")
        keys[output] = row.artifact_key
    return keys

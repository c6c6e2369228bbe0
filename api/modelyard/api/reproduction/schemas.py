"""Manifests and comparisons as clients see them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.tables import Attempt, Job
from modelyard.domain.reproduction.comparison import Comparison
from modelyard.kit.documented import Documented

LISTED = 50
"""Differences of one sort that are listed; the others are counted."""


class ManifestPublic(Documented):
    """What a job ran with, as its newest attempt said at its start."""

    object: Literal["job.manifest"] = "job.manifest"
    job_id: str
    attempt: int
    manifest: dict[str, Any]
    """`spec`, `seed`, `inputs` with digests, the checkpoint it `begins_at` if any,
    `code`, `packages`, `python`, `system`, `hardware`, `torch`, `environment`."""

    @classmethod
    def of(cls, attempt: Attempt) -> "ManifestPublic":
        """Show the manifest of an attempt that has one."""
        return cls(job_id=attempt.job_id, attempt=attempt.seq, manifest=attempt.manifest or {})


class Difference(BaseModel):
    """One thing that is not the same."""

    model_config = ConfigDict(from_attributes=True)

    original: Any
    reproduction: Any


class PointDifferencePublic(Difference):
    """A metric at a step; null where it was not finite."""

    step: int
    metric: str


class FileDifferencePublic(Difference):
    """SHA-256 of a file of an output; null where there is no such file."""

    output: str
    file: str


class FieldDifferencePublic(Difference):
    """A place in the manifests."""

    field: str


class ReproductionPublic(Documented):
    """Whether a job came out as the one it reproduces."""

    object: Literal["job.reproduction"] = "job.reproduction"
    job_id: str
    reproduces: str
    state: str
    """Of the reproduction."""
    is_identical: bool | None = None
    """Null until it has succeeded, and where there is nothing to compare."""
    summary: str
    points_compared: int = 0
    points_different: int = 0
    files_compared: int = 0
    files_different: int = 0
    first_different_points: list[PointDifferencePublic] = []
    """By step: where the runs part."""
    different_files: list[FileDifferencePublic] = []
    different_fields: list[FieldDifferencePublic] = []
    """What the two ran with."""

    @classmethod
    def pending(cls, job: Job) -> "ReproductionPublic":
        """Say that there is nothing to compare yet, or that there never will be."""
        goes_on = not JobState(job.state).is_finished()
        summary = f"The reproduction is {job.state}; " + (
            "ask again when it is done" if goes_on else "it made nothing to compare"
        )
        return cls(job_id=job.id, reproduces=job.reproduces or "", state=job.state, summary=summary)

    @classmethod
    def of(cls, job: Job, found: Comparison) -> "ReproductionPublic":
        """Show what was found of a reproduction that succeeded."""
        return cls(
            job_id=job.id,
            reproduces=job.reproduces or "",
            state=job.state,
            is_identical=found.is_identical if found.points or found.files else None,
            summary=_summarize(found),
            points_compared=found.points,
            points_different=len(found.different_points),
            files_compared=found.files,
            files_different=len(found.different_files),
            first_different_points=[PointDifferencePublic.model_validate(each) for each in found.different_points[:LISTED]],
            different_files=[FileDifferencePublic.model_validate(each) for each in found.different_files[:LISTED]],
            different_fields=[FieldDifferencePublic.model_validate(each) for each in found.different_fields[:LISTED]],
        )


def _summarize(found: Comparison) -> str:
    if not found.points and not found.files:
        return "Nothing could be compared: the jobs reported no metrics and made no files"
    if found.is_identical:
        return f"Identical: {found.points} values of metrics and {found.files} of the files made are the same to the last bit"
    parts = []
    if found.different_points:
        first = found.different_points[0]
        parts.append(
            f"{len(found.different_points)} of {found.points} values, the first at step {first.step}: "
            f"{first.metric} was {first.original} and is {first.reproduction}"
        )
    if found.different_files:
        file = found.different_files[0]
        parts.append(f"{len(found.different_files)} of {found.files} files, the first {file.file} of {file.output}")
    causes = ", ".join(each.field for each in found.different_fields[:5])
    return f"Different: {'; '.join(parts)}. " + (f"They ran with different {causes}" if causes else "They ran with the same")

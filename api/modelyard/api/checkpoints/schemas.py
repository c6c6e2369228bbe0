"""Checkpoints as clients see them."""

from typing import Any, Literal

from pydantic import ConfigDict

from modelyard.api.times import Time
from modelyard.domain.jobs.checkpoints import CheckpointView
from modelyard.domain.jobs.keeping import Keep
from modelyard.kit.documented import Documented
from modelyard.kit.inspection import Damage

EXAMPLE: dict[str, Any] = {
    "object": "checkpoint",
    "id": "ckpt_01k9zq3v2c8f6t4m7x1b5n0d2h",
    "job_id": "job_01k9zq0a5e7r9w2y4u6i8o1p3s",
    "attempt": 1,
    "step": 200,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "bytes": 61865984,
    "metrics": {"loss": 2.417, "validation_loss": 2.502},
    "is_newest": True,
    "is_best": True,
    "kept_for": ["newest", "best"],
    "needed_by": [],
    "verified_at": "2026-03-01T12:40:07Z",
    "damage": None,
    "created_at": "2026-03-01T12:30:51Z",
}


class CheckpointPublic(Documented):
    """A checkpoint a later attempt can continue from, or another job begin at (`resume_from`)."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    object: Literal["checkpoint"] = "checkpoint"
    id: str
    job_id: str
    attempt: int
    step: int
    """Optimizer steps done."""
    sha256: str
    """Over the names and digests of its files; of a job on several nodes, of the first node's."""
    bytes: int
    metrics: dict[str, Any]
    is_newest: bool
    """Whether an attempt would continue from this one."""
    is_best: bool
    """Whether it has the lowest `checkpoints.metric` of the job's spec."""
    kept_for: list[Keep]
    """Why it stays while the job runs; empty where nothing asks for it."""
    needed_by: list[str]
    """Open jobs that begin at it."""
    verified_at: Time | None
    """When every stored byte was last found to be what was written; null if nobody looked since."""
    damage: str | None
    """What the last look found wrong."""
    created_at: Time

    @classmethod
    def of(cls, view: CheckpointView) -> "CheckpointPublic":
        """Show a checkpoint among those of its job."""
        standing = {name: getattr(view, name) for name in ("is_newest", "is_best", "kept_for", "needed_by")}
        return cls(**view.checkpoint.model_dump(include=set(cls.model_fields)), **standing)


class DamagePublic(Documented):
    """A file that is not what was written."""

    model_config = ConfigDict(from_attributes=True)

    file: str
    expected: str
    """SHA-256."""
    actual: str | None
    """SHA-256; null where the file is missing."""


class VerificationPublic(Documented):
    """What a look at every stored byte came to."""

    object: Literal["checkpoint.verification"] = "checkpoint.verification"
    is_whole: bool
    damaged: list[DamagePublic]
    """The files that are not what was written, by name; with `/`, after the number of the node that stored it."""
    checkpoint: CheckpointPublic

    @classmethod
    def of(cls, view: CheckpointView, damaged: list[Damage]) -> "VerificationPublic":
        """Show a verdict."""
        shown = [DamagePublic.model_validate(each) for each in damaged]
        return cls(is_whole=not shown, damaged=shown, checkpoint=CheckpointPublic.of(view))

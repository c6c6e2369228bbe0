"""Explanations as clients see them."""

from typing import Self

from pydantic import BaseModel, ConfigDict

from modelyard.api.times import Time
from modelyard.domain.jobs.explanation import Explanation
from modelyard.domain.jobs.prediction import Prediction


class BlockingPublic(BaseModel):
    """Something a job waits for; `job_id` is null where it belongs to another project."""

    model_config = ConfigDict(from_attributes=True)

    job_id: str | None
    name: str
    why: str


class PredictedStart(BaseModel):
    """When a waiting job will likely start; null where nobody can know, and `basis` then says why."""

    expected: Time | None
    earliest: Time | None
    basis: str

    @classmethod
    def of(cls, prediction: Prediction, now: float) -> Self:
        """A prediction in seconds from now, as moments."""
        expected, earliest = prediction.expected_seconds, prediction.earliest_seconds
        return cls.model_validate(
            {
                "expected": None if expected is None else now + expected,
                "earliest": None if earliest is None else now + earliest,
                "basis": prediction.basis,
            }
        )


class ExplanationPublic(BaseModel):
    """Why a job is where it is, and the way out."""

    state: str
    summary: str
    reason: str | None
    details: list[str]
    fix: str | None
    log_lines: list[str]
    position: int | None
    """Place in its queue, 1 for the first; null unless it waits in one."""
    blocking: list[BlockingPublic]
    predicted_start: PredictedStart | None
    predicted_end: Time | None
    """When a running job will likely end."""

    @classmethod
    def of(cls, explanation: Explanation, now: float) -> Self:
        """An explanation with moments instead of seconds from now."""
        remaining = explanation.remaining_seconds
        same = ("state", "summary", "reason", "details", "fix", "log_lines", "position")
        return cls(
            **{name: getattr(explanation, name) for name in same},
            blocking=[BlockingPublic.model_validate(each) for each in explanation.blocking],
            predicted_start=PredictedStart.of(explanation.start, now) if explanation.start else None,
            predicted_end=None if remaining is None else now + remaining,
        )

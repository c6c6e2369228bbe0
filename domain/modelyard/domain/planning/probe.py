"""Two real steps of a job, to measure what a plan can only reckon."""

from dataclasses import dataclass, replace
from typing import Any

from sqlmodel import Session

from modelyard.domain.errors import InvalidRequest
from modelyard.domain.jobs.submission import JobRequest, kind_of
from modelyard.domain.jobs.tables import Job
from modelyard.domain.planning.history import read_step_seconds
from modelyard.domain.planning.translation import TRAINING_KINDS
from modelyard.domain.specs import parse_spec

PROBE_STEPS = 3
"""Two steps between three points: the first step compiles and warms up, and its time says nothing."""


@dataclass(frozen=True)
class Measured:
    """What a job really took, as far as it has run."""

    peak_memory_bytes: int | None
    """The most any rank held: of its GPU, or of the machine's memory, libraries included."""
    step_seconds: float | None
    """Median time of a step."""
    seconds: float | None
    """From its last start to its end."""


def make_probe(request: JobRequest) -> JobRequest:
    """The request of the probe: the same job with a few steps, nothing of which is kept. Raises `InvalidRequest`."""
    kind = kind_of(request)
    if kind not in TRAINING_KINDS:
        raise InvalidRequest(f"probe: a {kind} job has no steps to try; leave `probe` out", field="probe", value=True)
    asked: dict[str, Any] = request.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    asked |= {"kind": kind, "steps": PROBE_STEPS, "evaluate_every": PROBE_STEPS, "save_every": PROBE_STEPS}
    name = f"{request.name or asked['name']}-probe"
    return replace(
        request, spec=parse_spec(asked), name=name, is_probe=True, max_attempts=1, needs_approval=False, resume_from=None
    )


def measure(session: Session, job: Job) -> Measured:
    """What is known of a job that runs or ran."""
    peak = job.figures.get("peak_memory_bytes")
    seconds = job.finished_at - job.started_at if job.finished_at and job.started_at else None
    return Measured(peak if isinstance(peak, int) else None, read_step_seconds(session, job), seconds)

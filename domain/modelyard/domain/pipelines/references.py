"""How a step of a pipeline names another one: `${step}` or `${step.output}`."""

import re
from dataclasses import dataclass

_PATTERN = re.compile(r"\$\{(?P<name>[a-z0-9][a-z0-9_-]*)(\.(?P<output>[a-z_]+))?\}")


@dataclass(frozen=True)
class StepReference:
    """A step, and which of its outputs; None means the first."""

    name: str
    output: str | None = None


def parse_step_reference(text: str) -> StepReference | None:
    """The step a reference names, or None if it names something outside the pipeline."""
    match = _PATTERN.fullmatch(text)
    return StepReference(match["name"], match["output"]) if match else None

"""What a sweep may change in its job: ranges, and putting values of them into the job's body. Pure."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.specs.base import SpecModel

Body = Mapping[str, Any]
Scalar = bool | int | float | str | None


class FloatRange(SpecModel):
    """Numbers from `low` to `high`, both included."""

    type: Literal["float"]
    low: float
    high: float
    log: bool = False
    """Whether a tenth is as far from one as one is from ten: for learning rates and the like."""
    step: float | None = Field(default=None, gt=0)
    """Only `low`, `low + step`, …; a grid needs one."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        _check_range(self.low, self.high, self.log, self.step)
        return self

    def ends(self) -> list[Scalar]:
        """The values a spec must accept for it to accept all."""
        return [self.low, self.high]


class IntRange(SpecModel):
    """Whole numbers from `low` to `high`, both included."""

    type: Literal["int"]
    low: int
    high: int
    log: bool = False
    step: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        _check_range(self.low, self.high, self.log, self.step if self.step > 1 else None)
        return self

    def ends(self) -> list[Scalar]:
        """The values a spec must accept for it to accept all."""
        return [self.low, self.high]


class Choices(SpecModel):
    """One of a few values that have no order."""

    type: Literal["categorical"]
    choices: list[Scalar] = Field(min_length=1, max_length=100)

    def ends(self) -> list[Scalar]:
        """The values a spec must accept for it to accept all."""
        return list(self.choices)


Parameter = Annotated[FloatRange | IntRange | Choices, Field(discriminator="type")]
Space = Mapping[str, FloatRange | IntRange | Choices]
"""Place in a job's body, e.g. `spec.optimizer.learning_rate` -> its range."""


def _check_range(low: float, high: float, log: bool, step: float | None) -> None:
    if low >= high:
        raise ValueError(f"`low` ({low:g}) must be smaller than `high` ({high:g})")
    if log and low <= 0:
        raise ValueError(f"a logarithmic range needs `low` > 0, not {low:g}")
    if log and step is not None:
        raise ValueError("give `log` or `step`, not both")


def fill_in(job: Body, values: Mapping[str, Any]) -> dict[str, Any]:
    """Put values at their places in a job's body, as somebody would who wrote them there.

    What the body leaves out keeps its default: a place below `spec.optimizer` does not change the rest of the optimizer.
    """
    filled = deepcopy(dict(job))
    whole = JobCreate.model_validate(job).model_dump(mode="json", by_alias=True)
    for place, value in values.items():
        *outer, last = place.split(".")
        into, defaults = filled, whole
        for name in outer:
            defaults = defaults.get(name) or {}
            if not isinstance(into.get(name), dict):
                into[name] = deepcopy(defaults) if isinstance(defaults, dict) else {}
            into, defaults = into[name], defaults if isinstance(defaults, dict) else {}
        into[last] = value
    return filled


def pick_from_grid(space: Space, number: int) -> dict[str, Scalar]:
    """The parameters of one point of the grid, the last one changing fastest. Pure."""
    picked: dict[str, Scalar] = {}
    for place, parameter in reversed(list(space.items())):
        values = list_grid(parameter)
        number, position = divmod(number, len(values))
        picked[place] = values[position]
    return {place: picked[place] for place in space}


def list_grid(parameter: FloatRange | IntRange | Choices) -> list[Scalar]:
    """All values of a parameter on a grid; none for a range of floats without `step`."""
    if isinstance(parameter, Choices):
        return list(parameter.choices)
    if parameter.step is None:
        return []
    count = int((parameter.high - parameter.low) / parameter.step * (1 + 1e-12)) + 1
    return [parameter.low + position * parameter.step for position in range(count)]

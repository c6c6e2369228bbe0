"""What all specs share: strictness, and fields that name other things on the platform."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from modelyard.kit.documented import Documented

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What random numbers begin with; every library takes one of 32 bits."""


class SpecModel(Documented):
    """A piece of a spec. Unknown fields are refused, so that a typo is an error and not a silent default."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class JobSpec(SpecModel):
    """The spec of one kind of job. Subclasses declare `kind: Literal["…"]`."""

    def is_reproducible(self) -> bool:
        """Whether the same spec with the same inputs makes the same outputs, so that they need not be made twice."""
        return True

    def makes(self, output: str) -> bool:
        """Whether a job with this spec makes `output`, one of those its kind may make."""
        return True

    def check_ranks(self, ranks: int) -> None:
        """Refuse a number of ranks the job cannot be spread over. Raises `InvalidRequest`."""

    def check_accelerator(self, accelerator: str) -> None:
        """Refuse an accelerator, `cpu` or `gpu`, the job cannot run on. Raises `InvalidRequest`."""


@dataclass(frozen=True)
class Reference:
    """Marks a field that names a dataset, model, prompt, … by `name`, `name@version` or id.

    In a pipeline it may also be `${step}` or `${step.output}`: the thing that step made.
    """

    type: str


DatasetRef = Annotated[str, Reference("dataset")]
ModelRef = Annotated[str, Reference("model")]
PromptRef = Annotated[str, Reference("prompt")]
EvaluationRef = Annotated[str, Reference("evaluation")]
DeploymentRef = Annotated[str, Reference("deployment")]


@dataclass(frozen=True)
class FoundReference:
    """A reference as the user wrote it: `path` is the dotted place in the spec, e.g. `sources.0.dataset`."""

    path: str
    type: str
    value: str


def find_references(spec: BaseModel, prefix: str = "") -> Iterator[FoundReference]:
    """Yield every reference a spec makes, in field order, however deeply nested."""
    for name, marks in _marks_of(type(spec)):
        yield from _references_in(f"{prefix}{name}", getattr(spec, name), marks)


@cache
def _marks_of(model: type[BaseModel]) -> list[tuple[str, list[Reference]]]:
    """The fields of a model that are references or may hold some, with their marks."""
    fields = [
        (name, [mark for mark in field.metadata if isinstance(mark, Reference)] or _marks_in(field.annotation), field.annotation)
        for name, field in model.model_fields.items()
    ]
    return [(name, marks) for name, marks, annotation in fields if marks or _holds_references(annotation)]


def _holds_references(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return bool(_marks_of(annotation))
    return any(_holds_references(inner) for inner in getattr(annotation, "__args__", ()))


def _marks_in(annotation: Any) -> list[Reference]:
    """Marks on the members of `list[DatasetRef]` or `DatasetRef | None`."""
    found = [mark for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, Reference)]
    for inner in getattr(annotation, "__args__", ()):
        found += _marks_in(inner)
    return found


def _references_in(path: str, value: Any, marks: list[Reference]) -> Iterator[FoundReference]:
    if isinstance(value, BaseModel):
        yield from find_references(value, prefix=f"{path}.")
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _references_in(f"{path}.{position}", item, marks)
    elif isinstance(value, str) and marks:
        yield FoundReference(path, marks[0].type, value)

"""What is wrong with a training job however long it waits, told by what the registry and the workers say. Pure.

Every fault is one that the numbers prove: what is not known is not held against a job.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelyard.domain.jobs.queues import Shape
from modelyard.domain.planning.memory import QUANTIZED_BYTES
from modelyard.domain.planning.pieces import say_bytes
from modelyard.domain.planning.setups import ELEMENT_BYTES
from modelyard.domain.specs.finetuning import TuningSpec
from modelyard.domain.specs.pretraining import PretrainSpec

Details = Mapping[str, Any]
TrainingSpec = PretrainSpec | TuningSpec


@dataclass(frozen=True)
class Fault:
    """A field whose value cannot work, and the way out."""

    field: str
    value: object
    message: str


@dataclass(frozen=True)
class Facts:
    """What is known about what a job names."""

    dataset: Details = field(default_factory=dict)
    """`details` of the dataset, as whoever made it recorded them."""
    model: Details = field(default_factory=dict)
    """`details` of the model that is trained further, empty if there is none."""
    parameters: int | None = None
    rooms: Sequence[int | None] = ()
    """Bytes a rank would have on each machine that could run it, whether busy or not; None where a machine did not say."""


def find_fault(spec: TrainingSpec, slots: Shape, facts: Facts) -> Fault | None:
    """The first thing wrong; None if nothing is known to be."""
    return next(_list_faults(spec, slots, facts), None)


def _list_faults(spec: TrainingSpec, slots: Shape, facts: Facts) -> Iterator[Fault]:
    for fault in (
        _check_dataset(spec, facts.dataset),
        _check_role(spec, facts.model),
        _check_context(spec, facts.model),
        _check_weights(spec, slots, facts),
    ):
        if fault is not None:
            yield fault


def _check_dataset(spec: TrainingSpec, details: Details) -> Fault | None:
    wanted, found = _wanted_schema(spec), details.get("schema")
    if details.get("role") == "upload":
        message = (
            f"spec.dataset: {spec.dataset} is an upload that was not prepared; run a `prepare` job with `schema: {wanted}` on it"
        )
        return Fault("spec.dataset", spec.dataset, message)
    if found is None or found == wanted:
        return None
    message = (
        f"spec.dataset: {spec.dataset} has schema `{found}`, but {spec.kind} needs `{wanted}`; prepare it with `schema: {wanted}`"
    )
    return Fault("spec.dataset", spec.dataset, message)


def _wanted_schema(spec: TrainingSpec) -> str:
    return "text" if isinstance(spec, PretrainSpec) else spec.wanted_schema()


def _check_role(spec: TrainingSpec, details: Details) -> Fault | None:
    if details.get("role") != "adapter":
        return None
    reference = getattr(spec, "model", None)
    message = f"spec.model: {reference} is an adapter without its base; take the `model` output of the job that made it"
    return Fault("spec.model", reference, message)


def _check_context(spec: TrainingSpec, details: Details) -> Fault | None:
    context, length = details.get("context_length"), spec.sequence_length
    if not isinstance(context, int) or length <= context:
        return None
    message = (
        f"spec.sequence_length: {length} tokens are more than the {context} the model {getattr(spec, 'model', '')} reads; "
        f"set {context} or less, or choose a model with a longer context"
    )
    return Fault("spec.sequence_length", length, message)


def _check_weights(spec: TrainingSpec, slots: Shape, facts: Facts) -> Fault | None:
    """Weights alone: what else training takes is a formula, and no job is refused for a formula."""
    if facts.parameters is None or not facts.rooms or None in facts.rooms:
        return None
    weights, largest = count_weight_bytes(spec, slots, facts.parameters), max(room for room in facts.rooms if room is not None)
    if weights <= largest:
        return None
    message = (
        f"spec.precision: {facts.parameters:,} parameters in {spec.precision} are {say_bytes(weights)} of weights per rank, and "
        f"no machine that serves the stage has more than {say_bytes(largest)} for them; choose a smaller model, fewer bytes per "
        "weight, or ZeRO 3 over more slots (`modelyard plan` tries what would fit)"
    )
    return Fault("spec.precision", spec.precision, message)


def count_weight_bytes(spec: TrainingSpec, slots: Shape, parameters: int) -> int:
    """Bytes of weights each rank must hold at least."""
    ranks = slots.slots * slots.nodes if spec.deepspeed.zero_stage == 3 else 1
    is_quantized = isinstance(spec, TuningSpec) and spec.method == "qlora"
    return int(parameters * (QUANTIZED_BYTES if is_quantized else ELEMENT_BYTES[spec.precision]) / ranks)

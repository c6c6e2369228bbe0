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
    tokenizer: Details = field(default_factory=dict)
    """`details` of the model whose tokenizer a new model takes over."""
    parameters: int | None = None
    rooms: Sequence[int | None] = ()
    """Bytes a rank would have on each machine that could run it, whether busy or not; None where a machine did not say."""


def find_fault(spec: TrainingSpec, slots: Shape, facts: Facts) -> Fault | None:
    """The first thing wrong; None if nothing is known to be."""
    return next(_list_faults(spec, slots, facts), None)


def _list_faults(spec: TrainingSpec, slots: Shape, facts: Facts) -> Iterator[Fault]:
    for fault in (
        _check_dataset(spec, facts.dataset),
        _check_role("model", getattr(spec, "model", None), facts.model),
        _check_role("tokenizer", getattr(spec, "tokenizer", None), facts.tokenizer),
        _check_context(spec, facts.model),
        _check_vocabulary(spec, facts),
        _check_text(spec, facts.dataset),
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


def _check_role(name: str, reference: str | None, details: Details) -> Fault | None:
    if details.get("role") != "adapter":
        return None
    message = f"spec.{name}: {reference} is an adapter without its base; take the `model` output of the job that made it"
    return Fault(f"spec.{name}", reference, message)


def _check_context(spec: TrainingSpec, details: Details) -> Fault | None:
    config, length = getattr(spec, "config", None), spec.sequence_length
    context = details.get("context_length") if config is None else config.get("max_position_embeddings")
    if not isinstance(context, int) or length <= context:
        return None
    message = (
        f"spec.sequence_length: {length} tokens are more than the {context} the model {getattr(spec, 'model', '') or ''} reads; "
        f"set {context} or less, or "
        + ("choose a model with a longer context" if config is None else "raise config.max_position_embeddings")
    )
    return Fault("spec.sequence_length", length, message)


def _check_vocabulary(spec: TrainingSpec, facts: Facts) -> Fault | None:
    """A token without an embedding would end the first step that reads it."""
    config = getattr(spec, "config", None) or {}
    rows, tokens = facts.model.get("vocabulary_size"), facts.model.get("tokenizer_size")
    name, way_out = "model", "import the two that belong together"
    if facts.tokenizer:
        rows, tokens = config.get("vocab_size"), facts.tokenizer.get("tokenizer_size")
        name, way_out = "tokenizer", "leave config.vocab_size out, or take over a smaller tokenizer"
    if not isinstance(rows, int) or not isinstance(tokens, int) or tokens <= rows:
        return None
    reference = getattr(spec, name)
    message = f"spec.{name}: the tokenizer of {reference} makes {tokens} tokens, and the model has {rows} embeddings; {way_out}"
    return Fault(f"spec.{name}", reference, message)


def _check_text(spec: TrainingSpec, details: Details) -> Fault | None:
    """A split that cannot fill one sequence: no tokenizer makes more tokens of a text than it has bytes, and two marks."""
    sizes, rows = details.get("bytes_of_text"), details.get("rows")
    if not isinstance(spec, PretrainSpec) or not isinstance(sizes, dict) or not isinstance(rows, dict):
        return None
    for split in ("train", "heldout"):
        most = sizes.get(split, 0) + 2 * rows.get(split, 0)
        if split in sizes and most <= spec.sequence_length:
            message = (
                f"spec.sequence_length: the {split} split of {spec.dataset} has {sizes[split]:,} bytes of text, at most {most:,} "
                f"tokens, but one sequence of {spec.sequence_length} and the token after it are the least; prepare more text or "
                "lower sequence_length"
            )
            return Fault("spec.sequence_length", spec.sequence_length, message)
    return None


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

"""Whether a new job can begin at a checkpoint of another one: a decision over plain data.

The state in a checkpoint is that of one model under one optimizer. Ranks, ZeRO stage, data and learning rate may change.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.domain.errors import InvalidRequest
from modelyard.domain.planning.faults import Fault, TrainingSpec
from modelyard.domain.specs.base import JobSpec
from modelyard.domain.specs.finetuning import TuningSpec
from modelyard.domain.specs.pretraining import PretrainSpec


@dataclass(frozen=True)
class Side:
    """One of the two jobs."""

    spec: TrainingSpec
    inputs: Mapping[str, Mapping[str, Any]]
    """Place in the spec -> what its reference stands for."""
    ranks: int


def find_obstacle(new: Side, old: Side, step: int) -> Fault | None:
    """Why `new` cannot begin where `old` was after `step` optimizer steps; None if it can. Pure."""
    return next(_list_obstacles(new, old, step), None)


def keep_batch(new: Side, old: Side) -> TrainingSpec:
    """Return the spec with as many sequences per step as the old job had, unless it gives a number of its own. Pure."""
    if new.spec.global_batch_size is not None:
        return new.spec
    kept = old.spec.sequences_per_step(old.ranks)
    return new.spec.model_copy(update={"global_batch_size": kept, "gradient_accumulation_steps": 1})


def is_training(spec: JobSpec) -> bool:
    """Whether jobs with such a spec have checkpoints to begin at."""
    return isinstance(spec, PretrainSpec | TuningSpec)


def _list_obstacles(new: Side, old: Side, step: int) -> Iterator[Fault]:
    if new.spec.kind != old.spec.kind:
        yield Fault(
            "spec.kind",
            new.spec.kind,
            f"spec.kind: the checkpoint is of a {old.spec.kind} job and this is a {new.spec.kind} job; to go on from what that "
            "job learned, name its output as `model`",
        )
        return
    if new.spec.steps <= step:
        yield Fault(
            "spec.steps",
            new.spec.steps,
            f"spec.steps: {new.spec.steps} are not beyond the {step} steps the checkpoint has done; set more than {step}, as "
            "steps are counted from the beginning of the first job",
        )
    yield from _compare_models(new, old)
    yield from _compare_optimizers(new.spec, old.spec)
    yield from _compare_stages(new, old)
    yield from _compare_cuts(new, old)
    yield from _compare_batches(new, old)


def _compare_models(new: Side, old: Side) -> Iterator[Fault]:
    for place in ("model", "tokenizer"):
        yield from _compare_inputs(new, old, place)
    if isinstance(new.spec, TuningSpec) and isinstance(old.spec, TuningSpec):
        yield from _differing(new.spec, old.spec, "method")
        if new.spec.method != "full":
            yield from _differing(new.spec.lora, old.spec.lora, "rank", "alpha", "target_modules", prefix="lora.")
    elif isinstance(new.spec, PretrainSpec) and isinstance(old.spec, PretrainSpec):
        yield from _compare_architectures(new.spec, old.spec)
    yield from _differing(new.spec, old.spec, "precision")


def _compare_architectures(new: PretrainSpec, old: PretrainSpec) -> Iterator[Fault]:
    yield from _differing(new, old, "config")
    shape, begun = new.shape(), old.shape()
    if shape is not None and begun is not None:
        yield from _differing(shape, begun, *type(shape).model_fields, prefix="architecture.")
    if (shape is None) != (begun is None):
        message = "spec.architecture: the checkpoint is of a model that was given in another way; name it as that job did"
        yield Fault("spec.architecture", shape and shape.model_dump(), message)
    if new.model is None and new.tokenizer is None and new.tokens_to_train() != old.tokens_to_train():
        yield _fault("vocabulary_size", new.tokens_to_train(), old.tokens_to_train())


def _compare_inputs(new: Side, old: Side, place: str) -> Iterator[Fault]:
    wanted, given = old.inputs.get(place), new.inputs.get(place)
    if (wanted or {}).get("sha256") == (given or {}).get("sha256") and (wanted is None) == (given is None):
        return
    known = f"{wanted['name']}@{wanted['version']}" if wanted else "none"
    yield _fault(place, getattr(new.spec, place, None), known)


def _compare_optimizers(new: TrainingSpec, old: TrainingSpec) -> Iterator[Fault]:
    yield from _differing(new.optimizer, old.optimizer, "name", "betas", "eps", "weight_decay", prefix="optimizer.")
    overrides = [spec.deepspeed.override.get("optimizer") for spec in (new, old)]
    if overrides[0] != overrides[1]:
        yield _fault("deepspeed.override.optimizer", *overrides)


def _compare_stages(new: Side, old: Side) -> Iterator[Fault]:
    stages = [side.spec.zero_stage(side.ranks) for side in (new, old)]
    if new.spec.precision == "fp16" and 0 in stages and stages[0] != stages[1]:
        yield Fault(
            "spec.deepspeed.zero_stage",
            stages[0],
            f"spec.deepspeed.zero_stage: an fp16 checkpoint under zero_stage {stages[1]} cannot go on under {stages[0]}: without "
            f"ZeRO its scale is kept in another way; set {stages[1]}",
        )


def _compare_cuts(new: Side, old: Side) -> Iterator[Fault]:
    """What ranks saved that have parts of matrices fits ranks with the same parts only."""
    if not (isinstance(new.spec, PretrainSpec) and isinstance(old.spec, PretrainSpec)):
        return
    yield from _differing(new.spec.deepspeed, old.spec.deepspeed, "tensor_parallel_size", prefix="deepspeed.")
    if old.spec.deepspeed.tensor_parallel_size == 1:
        return
    stages = [side.spec.zero_stage(side.ranks) for side in (new, old)]
    if stages[0] != stages[1]:
        yield _fault("deepspeed.zero_stage", *stages)
    elif stages[0] > 0 and new.ranks != old.ranks:
        yield Fault(
            "resources.slots",
            new.ranks,
            f"resources.slots: {new.ranks} ranks cannot go on from a checkpoint of {old.ranks} with tensor_parallel_size "
            f"{old.spec.deepspeed.tensor_parallel_size} under zero_stage {stages[1]}; ask for {old.ranks}",
        )


def _compare_batches(new: Side, old: Side) -> Iterator[Fault]:
    try:
        keep_batch(new, old).check_ranks(new.ranks)
    except InvalidRequest as error:
        yield Fault(error.field or "", error.value, f"{error}; the first job had {old.spec.sequences_per_step(old.ranks)}")


def _differing(new: Any, old: Any, *fields: str, prefix: str = "") -> Iterator[Fault]:
    for field in fields:
        if getattr(new, field) != getattr(old, field):
            yield _fault(f"{prefix}{field}", getattr(new, field), getattr(old, field))


def _fault(place: str, given: object, wanted: object) -> Fault:
    message = (
        f"spec.{place}: it is {given!r}, and {wanted!r} in the job of the checkpoint, whose state fits that only; set {wanted!r}"
    )
    return Fault(f"spec.{place}", given, message)

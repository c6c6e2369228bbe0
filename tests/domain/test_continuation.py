"""What a new job may change that begins at another job's checkpoint, and what it may not."""

from typing import Any

import pytest
from factories import spec_of

from modelyard.domain.jobs.continuation import Side, find_obstacle, keep_batch
from modelyard.domain.specs import parse_spec

STEP = 10
BASE = {"model": {"id": "mdl_1", "name": "base", "version": 1, "sha256": "a"}}
OTHER = {"model": {"id": "mdl_2", "name": "base", "version": 2, "sha256": "b"}}
CUT = {"tensor_parallel_size": 2, "zero_stage": 0}


def side(kind: str, ranks: int = 1, inputs: dict[str, Any] | None = None, **spec: Any) -> Side:
    given = inputs if inputs is not None else {} if kind == "pretrain" else BASE
    return Side(parse_spec(spec_of(kind, **{"steps": 20, **spec})), given, ranks)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (side("pretrain"), side("pretrain")),
        (side("pretrain", 2, deepspeed={"zero_stage": 3}, micro_batch_size=4), side("pretrain", 1)),
        (side("pretrain", steps=11, sequence_length=64, seed=3), side("pretrain", steps=10)),
        (side("pretrain", optimizer={"learning_rate": 0.1, "warmup_ratio": 0, "scheduler": "wsd"}), side("pretrain")),
        (side("pretrain", dataset="other"), side("pretrain")),
        (side("pretrain", preset="5M"), side("pretrain", preset="5M")),
        (side("pretrain", 3, global_batch_size=24), side("pretrain", 2)),
        (side("pretrain", 4, deepspeed=CUT, micro_batch_size=4), side("pretrain", 2, deepspeed=CUT)),
        (side("finetune", 2, loss_on="all", micro_batch_size=2), side("finetune")),
        (side("finetune", lora={"dropout": 0.1}), side("finetune")),
        (side("finetune", method="full"), side("finetune", method="full", lora={"rank": 4})),
        (side("preference", objective="orpo"), side("preference")),
        (side("grpo", beta=0.1), side("grpo")),
    ],
)
def test_what_may_change(new: Side, old: Side) -> None:
    assert find_obstacle(new, old, STEP) is None


@pytest.mark.parametrize(
    ("new", "old", "field", "says"),
    [
        (side("finetune"), side("pretrain"), "spec.kind", "of a pretrain job"),
        (side("pretrain", steps=10), side("pretrain"), "spec.steps", "10 are not beyond the 10 steps"),
        (side("pretrain", architecture={"layers": 3}), side("pretrain"), "spec.architecture.layers", "3, and 4"),
        (side("pretrain", vocabulary_size=512), side("pretrain"), "spec.vocabulary_size", "512, and 4096"),
        (side("pretrain", preset="5M"), side("pretrain"), "spec.architecture.layers", "5, and 4"),
        (side("pretrain", config={"model_type": "llama"}), side("pretrain"), "spec.config", "llama"),
        (side("pretrain", precision="bf16"), side("pretrain"), "spec.precision", "'bf16', and 'fp32'"),
        (side("pretrain", optimizer={"name": "sgd"}), side("pretrain"), "spec.optimizer.name", "'sgd', and 'adamw'"),
        (side("pretrain", optimizer={"weight_decay": 0}), side("pretrain"), "spec.optimizer.weight_decay", "0.0, and 0.1"),
        (
            side("pretrain", deepspeed={"override": {"optimizer": {"type": "Lion"}}}),
            side("pretrain"),
            "spec.deepspeed.override.optimizer",
            "Lion",
        ),
        (
            side("pretrain", precision="fp16", deepspeed={"zero_stage": 0}),
            side("pretrain", precision="fp16", deepspeed={"zero_stage": 1}),
            "spec.deepspeed.zero_stage",
            "under zero_stage 1 cannot go on under 0",
        ),
        (
            side("pretrain", 3),
            side("pretrain", 1),
            "spec.global_batch_size",
            "8 is not a multiple of micro_batch_size 8 × 3 ranks",
        ),
        (side("pretrain", micro_batch_size=3), side("pretrain"), "spec.global_batch_size", "set micro_batch_size to 2"),
        (
            side("pretrain", 2, deepspeed=CUT),
            side("pretrain", 2, micro_batch_size=4),
            "spec.deepspeed.tensor_parallel_size",
            "2, and 1",
        ),
        (
            side("pretrain", 4, deepspeed={**CUT, "zero_stage": 1}, micro_batch_size=4),
            side("pretrain", 2, deepspeed=CUT),
            "spec.deepspeed.zero_stage",
            "1, and 0",
        ),
        (
            side("pretrain", 4, deepspeed={**CUT, "zero_stage": 1}, micro_batch_size=4),
            side("pretrain", 2, deepspeed={**CUT, "zero_stage": 1}),
            "resources.slots",
            "4 ranks cannot go on from a checkpoint of 2",
        ),
        (side("finetune", lora={"rank": 16}), side("finetune"), "spec.lora.rank", "16, and 8"),
        (side("finetune", lora={"alpha": 8}), side("finetune"), "spec.lora.alpha", "8, and 16"),
        (side("finetune", method="dora"), side("finetune"), "spec.method", "'dora', and 'lora'"),
        (side("finetune", inputs=OTHER), side("finetune"), "spec.model", "base@1"),
        (side("finetune", inputs={}), side("finetune"), "spec.model", "base@1"),
        (side("pretrain", inputs={"tokenizer": BASE["model"]}), side("pretrain"), "spec.tokenizer", "none"),
        (side("grpo", 2, micro_batch_size=2), side("grpo", 2), "spec.global_batch_size", "the first job had 2"),
    ],
)
def test_what_may_not(new: Side, old: Side, field: str, says: str) -> None:
    fault = find_obstacle(new, old, STEP)
    assert fault is not None
    assert (fault.field, says in fault.message) == (field, True), fault


@pytest.mark.parametrize(
    ("new", "old", "kept"),
    [
        (side("pretrain", 2, micro_batch_size=2), side("pretrain", 1), 8),
        (side("pretrain", 1), side("pretrain", 2, gradient_accumulation_steps=2), 32),
        (side("pretrain", 1, gradient_accumulation_steps=3), side("pretrain", 1), 8),
        (side("pretrain", 1), side("pretrain", 2, global_batch_size=32), 32),
        (side("pretrain", 2, global_batch_size=16), side("pretrain", 1), 16),
        (side("finetune", 2, micro_batch_size=1), side("finetune", 1), 4),
    ],
)
def test_the_batch_of_the_first_job_is_kept_unless_one_is_given(new: Side, old: Side, kept: int) -> None:
    assert find_obstacle(new, old, STEP) is None
    spec = keep_batch(new, old)
    assert (spec.global_batch_size, spec.sequences_per_step(new.ranks)) == (kept, kept)
    assert type(spec).model_validate(spec.model_dump(mode="json", by_alias=True)) == spec

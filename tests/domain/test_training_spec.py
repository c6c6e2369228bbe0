"""What every training spec shares: batches that divide, precision and kernels by name, refused with the way out."""

from typing import Any

import pytest
from pydantic import ValidationError

from modelyard.domain.errors import InvalidRequest
from modelyard.domain.jobs.queues import Shape
from modelyard.domain.jobs.submission import JobRequest, check_shape
from modelyard.domain.planning.translation import read_setup
from modelyard.domain.specs.finetuning import FinetuneSpec, TuningSpec
from modelyard.domain.specs.grpo import GrpoSpec
from modelyard.domain.specs.preference import PreferenceSpec
from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.domain.specs.training import TrainingSpec, nearest_divisor

NAMED = {"name": "t", "model": "m", "dataset": "d"}
LLAMA = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "vocab_size": 400, "max_position_embeddings": 256,
}  # fmt: skip


def specs(**fields: Any) -> list[TuningSpec]:
    """One of every tuning kind."""
    rewarded = GrpoSpec(**{**NAMED, "rewards": [{"name": "exact_answer"}], "max_new_tokens": 16, **fields})
    return [FinetuneSpec(**{**NAMED, **fields}), PreferenceSpec(**{**NAMED, **fields}), rewarded]


class TestDivideTheBatch:
    @pytest.mark.parametrize(("ranks", "rounds"), [(1, 6), (2, 3), (3, 2)])
    def test_the_global_batch_is_kept_by_any_number_of_ranks(self, ranks: int, rounds: int) -> None:
        for asked in specs(global_batch_size=24, micro_batch_size=4):
            check_shape(JobRequest(asked, shape=Shape(ranks)))
            assert asked.rounds(ranks) == rounds

    def test_the_plan_counts_it(self) -> None:
        setup = read_setup(specs(global_batch_size=24, micro_batch_size=4)[0], LLAMA, Shape(2), "cpu")
        assert setup is not None
        assert (setup.accumulation, setup.global_batch_size) == (3, 24)

    @pytest.mark.parametrize(
        ("whole", "slots", "fix"),
        [
            (24, 2, "set micro_batch_size to 6, or global_batch_size to 32"),
            (24, 5, "ask for a number of slots that divides 24, or global_batch_size to 40"),
        ],
    )
    def test_ranks_that_cannot_share_it(self, whole: int, slots: int, fix: str) -> None:
        for asked in specs(global_batch_size=whole, micro_batch_size=8):
            with pytest.raises(InvalidRequest, match=f"spec.global_batch_size: 24 is not a multiple of .*; {fix}"):
                check_shape(JobRequest(asked, shape=Shape(slots)))

    @pytest.mark.parametrize(
        ("whole", "size", "nearest"), [(24, 8, 8), (24, 7, 6), (24, 100, 24), (10, 4, 5), (999_983, 400_000, 1), (7, 4, 1)]
    )
    def test_the_nearest_that_divides(self, whole: int, size: int, nearest: int) -> None:
        assert nearest_divisor(whole, size) == nearest


class TestRefuse:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"global_batch_size": 10, "micro_batch_size": 4}, "set micro_batch_size to 5, or global_batch_size to 8"),
            ({"global_batch_size": 8, "gradient_accumulation_steps": 2}, "not both"),
            ({"global_batch_size": 10**9}, "less than or equal to 1000000"),
            ({"compile": "on", "deepspeed": {"zero_stage": 3}}, "compile `on` does not go with zero_stage 3"),
            ({"compile": "on", "kernels": "liger"}, "kernels `liger` are not for compiled layers"),
            ({"kernels": "triton"}, "'auto', 'liger' or 'off'"),
            ({"precision": "fp8"}, "'fp32', 'bf16' or 'fp16'"),
            ({"deepspeed": {"override": {"train_batch_size": 8}}}, "deepspeed.override.train_batch_size: which rows a step sees"),
            ({"deepspeed": {"offload": "optimizer"}}, "offload `optimizer` needs zero_stage 1, 2 or 3"),
            ({"deepspeed": {"override": {"optimizer": "adam"}}}, "override.optimizer 'adam' must hold keys of its own"),
            ({"deepspeed": {"override": {"zero_optimization": {"stage": 3}}}}, "zero_optimization.stage 3 has a field of its"),
            ({"deepspeed": {"override": {"fp16": {"enabled": True}}}}, "fp16.enabled True has a field of its own here; set"),
            ({"deepspeed": {"override": {"zero_optimisation": {}}}}, "did you mean 'zero_optimization'?"),
            ({"optimizer": {"name": "muon"}, "precision": "bf16"}, "optimizer `muon` needs whole matrices, which tuning in bf16"),
            ({"micro_batch_size": 10**20}, "less than or equal to 1000000"),
            ({"seed": -1}, "greater than or equal to 0"),
            ({"chat_template": ""}, "at least 1 character"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("kind", [FinetuneSpec, PreferenceSpec])
    def test_with_the_way_out(self, kind: type[TuningSpec], fields: dict[str, Any], message: str) -> None:
        with pytest.raises(ValidationError) as caught:
            kind(**{**NAMED, **fields})
        assert message in str(caught.value)

    def test_layers_that_sample_are_not_compiled(self) -> None:
        with pytest.raises(ValidationError, match="answers are sampled by the same layers"):
            specs(compile="on")

    @pytest.mark.parametrize(
        ("asked", "field"),
        [
            (PretrainSpec(name="p", dataset="d", precision="fp16"), "precision"),
            (FinetuneSpec(**NAMED, precision="fp16"), "precision"),
            (FinetuneSpec(**NAMED, method="qlora"), "method"),
            (PreferenceSpec(**NAMED, kernels="liger"), "kernels"),
        ],
    )
    def test_what_needs_a_gpu_on_cpus(self, asked: TrainingSpec, field: str) -> None:
        for accelerator in ("any", "gpu"):
            check_shape(JobRequest(asked, shape=Shape(1, accelerator)))
        with pytest.raises(InvalidRequest, match=r"needs a GPU, and resources.accelerator is cpu") as caught:
            check_shape(JobRequest(asked, shape=Shape(1, "cpu")))
        assert caught.value.field == f"spec.{field}"


@pytest.mark.parametrize(("name", "stage"), [("adamw", 1), ("muon", 0)])
def test_matrices_stay_whole_over_several_ranks(name: str, stage: int) -> None:
    for asked in specs(optimizer={"name": name}, deepspeed={"zero_stage": "auto"}):
        assert asked.zero_stage(2) == stage

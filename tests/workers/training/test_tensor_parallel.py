"""Ranks that compute each matrix product together learn what one rank with whole matrices learns, but for the order of sums."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from modelyard.domain.specs.tensor_parallel import CUT_MODEL_TYPES
from modelyard.workers.recipe import EXIT_BAD_DATA, EXIT_SAVED, BadData
from modelyard.workers.training.tensor_parallel import check_cuts
from tests.workers.training.test_packed_documents import build
from tests.workers.training.test_pretrain_recipe import document

STEPS = 6
Train = Callable[..., Any]


@pytest.fixture
def train(poems: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]) -> Train:
    """Pre-train a tiny Llama with grouped heads on so many ranks, of which `parts` share each matrix."""

    def train(name: str, ranks: int, parts: int, until: int | None = None, code: int = 0, **spec: Any) -> Any:
        group = ranks_in(tmp_path / name)
        size = {"hidden_size": 32, "intermediate_size": 64, "layers": 2, "heads": 4, "key_value_heads": 2}
        # A norm that is clipped: each rank has to know that of all.
        often = {
            "steps": STEPS,
            "evaluate_every": 3,
            "save_every": 3,
            "optimizer": {"learning_rate": 0.003, "max_grad_norm": 0.5},
        }
        fields = {"architecture": size, "sequence_length": 64, "global_batch_size": 4, "micro_batch_size": 2}
        sharing = {"tensor_parallel_size": parts, **spec.pop("deepspeed", {})}
        asked = document(poems, spec.pop("resume_from", None), **{**often, **fields, "deepspeed": sharing, **spec})
        asked["options"] = {"pause_at_step": until}
        code = EXIT_SAVED if until else code
        assert group.run("pretrain", asked, ranks=ranks) == [code] * ranks, group.logs
        return group

    return train


def weights_of(run: Any) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(run.folder / "outputs" / "model" / "model.safetensors")


def expect_equal(shared: Any, alone: Any) -> None:
    for name in ("loss", "gradient_norm", "validation_loss"):
        assert shared.metric(name) == pytest.approx(alone.metric(name), rel=1e-5), name
    assert list(shared.metric("loss")) == list(range(1, STEPS + 1))
    whole, gathered = weights_of(alone), weights_of(shared)
    assert whole.keys() == gathered.keys()
    assert all(torch.allclose(gathered[name], whole[name], atol=1e-5) for name in whole)
    costs = [
        next(iter(run.metric("model_flops_per_second").values())) / run.metric("tokens_per_second")[1] for run in (shared, alone)
    ]
    assert costs[0] == pytest.approx(costs[1]), "operations are those of the whole model"


class TestTrain:
    def test_two_ranks_that_share_matrices_learn_as_one_does(self, train: Train) -> None:
        alone, shared = train("alone", 1, 1), train("shared", 2, 2)
        expect_equal(shared, alone)
        for name in ("tokens", "parameters"):
            assert shared.metadata("model")[name] == alone.metadata("model")[name]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "spec",
        [
            {"deepspeed": {"zero_stage": 0}},
            {"deepspeed": {"zero_stage": 1}, "micro_batch_size": 1},
            {"deepspeed": {"zero_stage": 2}, "activation_checkpointing": True, "documents": "joined"},
        ],
        ids=["zero-0", "zero-1", "zero-2"],
    )
    def test_in_several_groups_under_zero_too(self, train: Train, spec: dict[str, Any]) -> None:
        alone = {**spec, "deepspeed": {"zero_stage": 0}}
        expect_equal(train("shared", 4, 2, **spec), train("alone", 1, 1, **alone))

    @pytest.mark.slow
    @pytest.mark.parametrize("model_type", sorted(CUT_MODEL_TYPES - {"llama"}))
    def test_other_model_types(self, train: Train, model_type: str) -> None:
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 64}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
        spec = {"architecture": None, "config": {"model_type": model_type, **sizes, **heads}}
        expect_equal(train("shared", 2, 2, **spec), train("alone", 1, 1, **spec))

    @pytest.mark.slow
    @pytest.mark.parametrize("stage", [0, 1])
    def test_in_16_bits(self, train: Train, stage: int) -> None:
        sharing = {"zero_stage": stage}
        alone, shared = (train(f"{parts}", parts, parts, deepspeed=sharing, precision="bf16") for parts in (1, 2))
        assert shared.metric("loss") == pytest.approx(alone.metric("loss"), rel=3e-3)


class TestResume:
    @pytest.mark.parametrize("stage", [0, pytest.param(1, marks=pytest.mark.slow)])
    def test_repeats_the_unbroken_run_to_the_bit(self, train: Train, stage: int) -> None:
        sharing = {"zero_stage": stage}
        unbroken = train("unbroken", 2, 2, deepspeed=sharing)
        first = train("first", 2, 2, until=4, deepspeed=sharing)
        checkpoint = first.folder / "checkpoints" / "step-00000004"
        last = train("last", 2, 2, deepspeed=sharing, resume_from=checkpoint)
        assert first.metric("loss") | last.metric("loss") == unbroken.metric("loss")
        gathered = weights_of(unbroken)
        assert all(value.equal(gathered[name]) for name, value in weights_of(last).items())

    @pytest.mark.slow
    def test_ranks_that_share_otherwise_are_refused(self, train: Train) -> None:
        first = train("first", 2, 2, until=3)
        refused = train("last", 2, 1, resume_from=first.folder / "checkpoints" / "step-00000003", code=EXIT_BAD_DATA)
        assert "with tensor_parallel_size 2 under zero_stage 0 cannot be continued with tensor_parallel_size 1" in str(
            refused.logs
        )


class TestCheckCuts:
    @pytest.mark.parametrize(
        ("model", "message"),
        [
            ({"model_type": "gpt2"}, "tensor_parallel_size 2 does not go with model_type 'gpt2'"),
            ({"num_attention_heads": 2, "num_key_value_heads": 1}, "key_value_heads 1 cannot be cut evenly for"),
        ],
    )
    def test_models_that_cannot_be_cut(self, model: dict[str, Any], message: str) -> None:
        with pytest.raises(BadData) as caught:
            check_cuts(build(**model), 2)
        assert message in str(caught.value)

    def test_whole_matrices_suit_every_model(self) -> None:
        check_cuts(build(model_type="gpt2"), 1)

"""Ranks that share sequences learn what ranks with sequences of their own learn, but for the order of sums."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.domain.specs.sequence_parallel import SharingDeepSpeedSpec
from modelyard.workers.recipe import EXIT_SAVED, BadData
from modelyard.workers.training.cross_entropy import IGNORED
from modelyard.workers.training.packed_rows import take_part
from modelyard.workers.training.places import Place
from modelyard.workers.training.trained_model import Batch, TrainedModel
from tests.workers.training.test_packed_documents import build
from tests.workers.training.test_pretrain_recipe import document

STEPS = 6
Train = Callable[..., Any]


@pytest.fixture
def train(poems: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]) -> Train:
    """Pre-train a tiny Llama with grouped heads on so many ranks, of which `parts` share each sequence."""

    def train(ranks: int, parts: int, until: int | None = None, resume_from: Path | None = None, **spec: Any) -> Any:
        group = ranks_in(tmp_path / f"{ranks}-{parts}-{until}")
        size = {"hidden_size": 32, "intermediate_size": 64, "layers": 2, "heads": 4, "key_value_heads": 2}
        often = {"steps": STEPS, "evaluate_every": 3, "save_every": STEPS, "optimizer": {"learning_rate": 0.003}}
        sharing = {"sequence_parallel_size": parts, **spec.pop("deepspeed", {})}
        fields = {"architecture": size, "sequence_length": 64, "global_batch_size": 4, "micro_batch_size": 2}
        asked = document(poems, resume_from, **{**often, **fields, "deepspeed": sharing, **spec})
        asked["options"] = {"pause_at_step": until}
        code = EXIT_SAVED if until else 0
        assert group.run("pretrain", asked, ranks=ranks) == [code] * ranks, group.logs
        return group

    return train


def expect_equal(shared: Any, alone: Any) -> None:
    for name in ("loss", "gradient_norm", "validation_loss"):
        assert shared.metric(name) == pytest.approx(alone.metric(name), rel=1e-5), name
    for run in (shared, alone):
        assert list(run.metric("loss")) == list(range(1, STEPS + 1))


class TestTrain:
    def test_two_ranks_that_share_sequences_learn_as_one_does(self, train: Train) -> None:
        alone, shared = train(1, 1), train(2, 2)
        expect_equal(shared, alone)
        assert shared.metadata("model")["tokens"] == alone.metadata("model")["tokens"] == STEPS * 4 * 64

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("ranks", "spec"),
        [
            (2, {"deepspeed": {"zero_stage": 0}, "documents": "joined"}),
            (2, {"deepspeed": {"zero_stage": 3}, "activation_checkpointing": True}),
            (4, {"deepspeed": {"zero_stage": 2}, "micro_batch_size": 1}),
        ],
        ids=["joined", "zero-3", "two-groups"],
    )
    def test_under_zero_and_in_several_groups_too(self, train: Train, ranks: int, spec: dict[str, Any]) -> None:
        expect_equal(train(ranks, 2, **spec), train(1, 1, **{**spec, "deepspeed": {"zero_stage": 0}}))

    @pytest.mark.slow
    def test_a_run_goes_on_on_ranks_that_share_otherwise(self, train: Train) -> None:
        unbroken, first = train(1, 1), train(2, 2, until=3)
        then = train(1, 1, resume_from=first.folder / "checkpoints" / "step-00000003", until=5)
        last = train(2, 2, resume_from=then.folder / "checkpoints" / "step-00000005")
        losses = first.metric("loss") | then.metric("loss") | last.metric("loss")
        assert losses == pytest.approx(unbroken.metric("loss"), rel=1e-5)


class TestTakePart:
    def test_parts_make_up_the_whole_and_weigh_what_they_count(self) -> None:
        tokens = torch.arange(16).view(2, 8)
        targets = torch.tensor([[1, 2, 3, IGNORED, IGNORED, IGNORED, IGNORED, IGNORED], [9, 10, 11, 12, 13, 14, 15, 16]])
        whole = Batch(tokens, None, targets, None)
        parts = [take_part(whole, Place(0, 1, number, 2)) for number in range(2)]
        assert torch.cat([part.tokens for part in parts], 1).equal(tokens)
        assert torch.cat([part.targets for part in parts], 1).equal(targets)
        assert [part.positions.tolist() for part in parts if part.positions is not None] == [
            [[0, 1, 2, 3]] * 2,
            [[4, 5, 6, 7]] * 2,
        ]
        assert [part.share for part in parts] == [2 * 7 / 11, 2 * 4 / 11]

    def test_a_part_that_counts_nothing_weighs_nothing(self) -> None:
        targets = torch.tensor([[IGNORED, IGNORED, 3, 4]])
        none, all_ = (take_part(Batch(torch.arange(4)[None], None, targets, None), Place(0, 1, number, 2)) for number in range(2))
        model = TrainedModel(build(), has_plain_head=True)
        assert (none.share, all_.share) == (0.0, 2.0)
        assert float(model(none)) == 0.0
        assert float(model(all_)) > 0.0

    def test_a_rank_with_whole_sequences_keeps_the_batch(self) -> None:
        whole = Batch(torch.zeros(1, 8), None, torch.zeros(1, 8), None)
        assert take_part(whole, Place(3, 4, 0, 1)) is whole


class TestRefuse:
    @pytest.mark.parametrize(
        ("model", "device", "message"),
        [
            ({"model_type": "gpt2"}, "cpu", "cannot share sequences of the architecture `gpt2`"),
            ({"model_type": "mistral", "sliding_window": 16}, "cpu", "whose attention is of a kind of its own"),
            ({"num_attention_heads": 1, "num_key_value_heads": 1}, "cpu", "1 heads and 1 key-value heads cannot be shared out"),
            ({"num_attention_heads": 2, "num_key_value_heads": 1}, "cpu", "2 heads and 1 key-value heads cannot be shared out"),
            ({"attention_dropout": 0.1}, "cpu", "attention_dropout 0.1 is not for shared sequences"),
            ({}, "cuda", "on GPUs, whose attention over documents apart is made for 16 bits; set it to bf16"),
        ],
    )  # fmt: skip
    def test_models_that_cannot_be_shared_out(self, model: dict[str, Any], device: str, message: str) -> None:
        from modelyard.workers.training.sequence_parallel import share_sequences

        spec = PretrainSpec(
            name="p", dataset="d", model="m", sequence_length=64, deepspeed=SharingDeepSpeedSpec(sequence_parallel_size=2)
        )
        with pytest.raises(BadData) as caught:
            share_sequences(build(**model), spec, device)
        assert message in str(caught.value)

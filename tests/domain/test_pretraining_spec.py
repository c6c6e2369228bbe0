"""What pre-training may be asked for: one way to name a model, sizes that are what they say, batches that divide."""

from typing import Any

import pytest
from pydantic import ValidationError

from modelyard.domain.errors import InvalidRequest
from modelyard.domain.jobs.queues import Shape
from modelyard.domain.jobs.submission import JobRequest, check_shape
from modelyard.domain.specs import parse_spec
from modelyard.domain.specs.architectures import PRESETS, ArchitectureSpec
from modelyard.domain.specs.pretraining import PretrainSpec


def spec(**fields: Any) -> PretrainSpec:
    return PretrainSpec(name="p", dataset="d", **fields)


def config_of(**settings: Any) -> dict[str, Any]:
    """The configuration of a Llama, wrong in one place."""
    return {"config": {"model_type": "llama", **settings}}


def sharing(parts: int) -> dict[str, Any]:
    return {"deepspeed": {"sequence_parallel_size": parts}}


def cut(parts: int, **choices: Any) -> dict[str, Any]:
    return {"deepspeed": {"tensor_parallel_size": parts, **choices}}


class TestPresets:
    def test_name_sizes_they_have(self) -> None:
        units = {"M": 10**6, "B": 10**9}
        for name, preset in PRESETS.items():
            assert preset.parameters() == pytest.approx(int(name[:-1]) * units[name[-1]], rel=0.25)

    def test_bring_a_vocabulary(self) -> None:
        assert spec(preset="15M").tokens_to_train() == 16_384
        assert spec(preset="15M", vocabulary_size=500).tokens_to_train() == 500
        assert spec().tokens_to_train() == 4096
        assert spec().shape() == ArchitectureSpec()
        assert spec(model="m").shape() is None


class TestRefuse:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"preset": "5M", "architecture": {}}, "`preset`, `architecture` name more than one model"),
            ({"model": "m", "config": {"model_type": "llama"}}, "`config`, `model` name more than one model"),
            ({"preset": "7M"}, "Input should be '5M'"),
            ({"model": "m", "tokenizer": "t"}, "`model` brings its own tokenizer"),
            ({"tokenizer": "t", "vocabulary_size": 500}, "`vocabulary_size` is for a tokenizer trained here"),
            ({"config": {"model_type": "llama", "auto_map": {}}}, "config.auto_map names code to run"),
            ({"config": {"model_type": "bert"}}, "config.model_type 'bert' is not a causal language model"),
            ({"config": {"hidden_size": 4}}, "config.model_type None is not"),
            (config_of(vocab_size=None), "config.vocab_size None is no size: give a whole number above 0, or leave it out"),
            (config_of(hidden_size="64"), "config.hidden_size '64' is no size"),
            (config_of(num_hidden_layers=0), "config.num_hidden_layers 0 is no size"),
            (config_of(head_dim=True), "config.head_dim True is no size"),
            (config_of(intermediate_size=10**30), "is no size"),
            (config_of(num_attention_heads=6, num_key_value_heads=4), "num_key_value_heads 4 does not divide config.num_at"),
            ({**sharing(2), **config_of(num_attention_heads="four")}, "config.num_attention_heads 'four' is no size"),
            ({"architecture": {"heads": 10**9}}, "less than or equal to 65536"),
            ({"seed": -1}, "greater than or equal to 0"),
            ({"seed": 2**32}, "less than 4294967296"),
            ({"steps": 10**30}, "less than or equal to 1000000000"),
            ({"sequence_length": 10**9}, "less than or equal to 16777216"),
            ({"architecture": {"hidden_size": 100, "heads": 3}}, "hidden_size 100 must be a multiple of heads 3"),
            ({"architecture": {"hidden_size": 36, "heads": 4}}, "is 9, but rotary positions need an even number; take 32"),
            ({"optimizer": {"name": "adamwx"}}, "Input should be 'adamw', 'adafactor', 'muon' or 'sgd'"),
            ({"optimizer": {"betas": [0.9, 1.0]}}, "must both be at least 0 and less than 1"),
            ({"optimizer": {"name": "muon"}, "deepspeed": {"zero_stage": 2}}, "needs whole matrices, which zero_stage 2 cuts"),
            ({"deepspeed": {"offload": "parameters", "zero_stage": 2}}, "offload `parameters` needs zero_stage 3, which is 2"),
            ({"deepspeed": {"offload": "optimizer", "zero_stage": 0}}, "offload `optimizer` needs zero_stage 1, 2 or 3"),
            ({"compile": "on", "deepspeed": {"zero_stage": 3}}, "compile `on` does not go with zero_stage 3"),
            ({"global_batch_size": 10, "micro_batch_size": 4}, "global_batch_size 10 is not a multiple of micro_batch_size 4"),
            ({"global_batch_size": 8, "gradient_accumulation_steps": 2}, "not both"),
            ({**sharing(2), "sequence_length": 129}, "sequence_length 129 cannot be shared out evenly over deepspeed.sequence"),
            ({**sharing(2), "sequence_length": 129}, "set it to 128"),
            ({**sharing(4), "sequence_length": 32}, "at least 16 tokens each; set it to 64"),
            ({**sharing(3), "sequence_length": 96}, "heads 4 cannot be shared out evenly over deepspeed.sequence"),
            ({**sharing(4), "architecture": {"key_value_heads": 2}}, "key_value_heads 2 cannot be shared out evenly"),
            ({**sharing(4), "preset": "135M"}, "deepspeed.sequence_parallel_size 4; it may be 1, 3 or 9"),
            ({**sharing(2), "config": {"model_type": "gpt2"}}, "which config.model_type 'gpt2' does not have"),
            ({**sharing(2), "config": {"model_type": "llama", "num_attention_heads": 3}}, "heads 3 cannot be shared out evenly"),
            ({**sharing(2), "compile": "on"}, "compile `on` does not go with sequence_parallel_size above 1"),
            (sharing(0), "greater than or equal to 1"),
            ({"deepspeed": {"override": {"sequence_parallel_size": 2}}}, "set deepspeed.sequence_parallel_size instead"),
            ({"deepspeed": {"override": {"tensor_parallel": {"autotp_size": 2}}}}, "set deepspeed.tensor_parallel"),
            (cut(0), "greater than or equal to 1"),
            (cut(2, sequence_parallel_size=2), "tensor_parallel_size 2 does not go with sequence_parallel_size 2"),
            (cut(2, zero_stage=3), "does not go with deepspeed.zero_stage 3, which shares out the weights by itself"),
            (cut(2, zero_stage=2, offload="optimizer"), "does not go with deepspeed.offload optimizer"),
            (cut(2, override={"optimizer": {"type": "Lamb"}}), "does not go with deepspeed.override.optimizer"),
            ({**cut(2), "optimizer": {"name": "muon"}}, "does not go with optimizer.name muon, which works on whole matrices"),
            ({**cut(2), "precision": "fp16"}, "does not go with precision fp16"),
            ({**cut(2), "compile": "on"}, "does not go with compile on"),
            ({**cut(2), "kernels": "liger"}, "does not go with kernels liger"),
            ({**cut(3), "preset": "5M"}, "cannot be cut evenly for deepspeed.tensor_parallel_size 3; it may be 1, 2 or 4"),
            ({**cut(4), "architecture": {"key_value_heads": 2}}, "key_value_heads 2 cannot be cut evenly"),
            ({**cut(2), **config_of(intermediate_size=33)}, "intermediate_size 33 cannot be cut evenly"),
            ({**cut(2), "config": {"model_type": "qwen3"}}, "does not go with model_type 'qwen3'; set it to 1"),
        ],
    )  # fmt: skip
    def test_with_the_way_out(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(ValidationError) as caught:
            spec(**fields)
        assert message in str(caught.value)

    @pytest.mark.parametrize(
        ("whole", "micro", "slots", "fix"),
        [
            (24, 8, 2, "set micro_batch_size to 6, or global_batch_size to 32"),
            (24, 8, 5, "ask for a number of slots that divides 24, or global_batch_size to 40"),
        ],
    )
    def test_ranks_that_cannot_share_the_batch(self, whole: int, micro: int, slots: int, fix: str) -> None:
        asked = spec(global_batch_size=whole, micro_batch_size=micro)
        check_shape(JobRequest(asked, shape=Shape(3)))
        with pytest.raises(InvalidRequest) as caught:
            check_shape(JobRequest(asked, shape=Shape(slots)))
        assert f"{whole} is not a multiple of micro_batch_size {micro} × {slots} ranks = {micro * slots}; {fix}" in str(
            caught.value
        )
        assert (caught.value.field, caught.value.value) == ("spec.global_batch_size", whole)

    def test_ranks_that_do_not_make_whole_groups(self) -> None:
        asked = spec(**sharing(4))
        check_shape(JobRequest(asked, shape=Shape(8)))
        with pytest.raises(InvalidRequest) as caught:
            check_shape(JobRequest(asked, shape=Shape(6)))
        assert "6 ranks are not a multiple of 4; it may be 1, 2, 3 or 6, or ask for 8 slots" in str(caught.value)
        assert (caught.value.field, caught.value.value) == ("spec.deepspeed.sequence_parallel_size", 4)

    def test_ranks_that_cannot_share_matrices(self) -> None:
        check_shape(JobRequest(spec(**cut(2)), shape=Shape(4)))
        with pytest.raises(InvalidRequest) as caught:
            check_shape(JobRequest(spec(**cut(2)), shape=Shape(3)))
        assert "3 ranks are not a multiple of 2; it may be 1 or 3, or ask for 4 slots" in str(caught.value)
        assert (caught.value.field, caught.value.value) == ("spec.deepspeed.tensor_parallel_size", 2)

    def test_what_gpus_cannot_share(self) -> None:
        for accelerator, fields in (
            ("cpu", sharing(2)),
            ("gpu", {**sharing(2), "precision": "bf16"}),
            ("gpu", {}),
            ("gpu", {**sharing(2), "documents": "joined"}),
        ):
            spec(**fields).check_accelerator(accelerator)
        with pytest.raises(InvalidRequest) as caught:
            spec(**sharing(2)).check_accelerator("gpu")
        assert "fp32 does not go with deepspeed.sequence_parallel_size 2 on GPUs" in str(caught.value)


class TestSharedSequences:
    @pytest.mark.parametrize(("ranks", "parts", "rounds", "whole"), [(2, 1, 4, 16), (4, 2, 4, 16), (8, 2, 2, 16), (2, 2, 8, 16)])
    def test_a_group_of_ranks_counts_once(self, ranks: int, parts: int, rounds: int, whole: int) -> None:
        asked = spec(global_batch_size=16, micro_batch_size=2, **sharing(parts))
        check_shape(JobRequest(asked, shape=Shape(ranks)))
        assert (asked.rounds(ranks), asked.sequences_per_step(ranks)) == (rounds, whole)
        asked = spec(global_batch_size=16, micro_batch_size=2, **cut(parts))
        assert (asked.rounds(ranks), asked.sequences_per_step(ranks)) == (rounds, whole)

    def test_optimizers_are_shared_out_over_ranks_with_the_same_weights(self) -> None:
        asked = spec(**cut(2))
        assert [asked.zero_stage(ranks) for ranks in (2, 4)] == [0, 1]

    def test_the_zero_stage_follows_from_the_ranks_whatever_else_is_chosen(self) -> None:
        for chosen in ({}, {"deepspeed": {"override": {"prescale_gradients": True}}}):
            assert [spec(**chosen).zero_stage(ranks) for ranks in (1, 2)] == [0, 1]

    def test_a_batch_that_groups_cannot_share(self) -> None:
        with pytest.raises(InvalidRequest) as caught:
            check_shape(JobRequest(spec(global_batch_size=24, micro_batch_size=4, **sharing(2)), shape=Shape(8)))
        assert "24 is not a multiple of micro_batch_size 4 × 4 groups of 2 ranks = 16; set micro_batch_size to 3" in str(
            caught.value
        )


@pytest.mark.parametrize(
    "fields", [{}, {"preset": "5M"}, {"config": {"model_type": "qwen3"}}, {"model": "m"}, {"tokenizer": "t"}]
)
def test_what_is_kept_can_be_read_again(fields: dict[str, Any]) -> None:
    made = spec(**fields)
    assert parse_spec(made.model_dump(mode="json")) == made

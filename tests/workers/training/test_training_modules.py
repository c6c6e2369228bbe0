"""The pure parts of training: schedule, configuration, data order."""

import math
from pathlib import Path
from typing import Any

import pytest

from modelyard.domain.specs.architectures import PRESETS
from modelyard.domain.specs.optimization import TORCH_OPTIMIZERS
from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.workers.recipe import NotFinite
from modelyard.workers.training import token_writer
from modelyard.workers.training.deepspeed_config import derive_config, merge
from modelyard.workers.training.schedule import learning_rate_at
from modelyard.workers.training.token_store import TokenStore, numbers_at, spread_numbers


class TestLearningRate:
    def test_warms_up_and_decays_to_a_tenth(self) -> None:
        rates = [learning_rate_at(step, 100, 1.0, 0.1) for step in range(100)]
        assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
        assert rates[10] == pytest.approx(1.0)
        assert rates[-1] == pytest.approx(0.1)
        assert rates[10:] == sorted(rates[10:], reverse=True)

    def test_one_step_without_warm_up(self) -> None:
        assert learning_rate_at(0, 1, 3.0, 0.0) == 3.0

    @pytest.mark.parametrize(
        ("scheduler", "expected"),
        [
            ("cosine", [1.0, 0.87552, 0.575, 0.27448, 0.15]),
            ("linear", [1.0, 0.7875, 0.575, 0.3625, 0.15]),
            ("constant", [1.0, 1.0, 1.0, 1.0, 1.0]),
            ("wsd", [1.0, 1.0, 1.0, 0.575, 0.15]),
        ],
    )
    def test_ends_at_the_floor_its_own_way(self, scheduler: Any, expected: list[float]) -> None:
        rates = [learning_rate_at(step, 5, 1.0, 0.0, 0.15, scheduler, decay_ratio=0.5) for step in range(5)]
        assert rates == pytest.approx(expected, abs=1e-5)


class TestDeriveConfig:
    def config(self, device: str, ranks: int = 1, **spec: Any) -> dict[str, Any]:
        return derive_config(PretrainSpec(name="p", dataset="d", **spec), device, ranks)

    @pytest.mark.parametrize("device", ["cpu", "cuda"])
    def test_uses_the_optimizer_that_needs_no_compiler(self, device: str) -> None:
        parameters = self.config(device)["optimizer"]["params"]
        assert (parameters["torch_adam"], parameters["fused"]) == (True, True)

    def test_the_override_wins_key_by_key(self) -> None:
        override = {"zero_optimization": {"reduce_bucket_size": 5}, "optimizer": {"params": {"eps": 1e-6}}}
        config = self.config("cpu", deepspeed={"zero_stage": 2, "override": override}, precision="bf16")
        assert config["zero_optimization"] == {"stage": 2, "reduce_bucket_size": 5}
        assert config["optimizer"]["params"]["eps"] == 1e-6
        assert config["optimizer"]["params"]["lr"] == 1e-3
        assert config["bf16"] == {"enabled": True}

    def test_optimizers_an_override_may_name_are_there(self) -> None:
        import torch

        assert [name for name in TORCH_OPTIMIZERS if not hasattr(torch.optim, name)] == []

    @pytest.mark.parametrize(("ranks", "stage"), [(1, 0), (2, 1), (8, 1)])
    def test_one_rank_shares_with_nobody(self, ranks: int, stage: int) -> None:
        assert self.config("cpu", ranks=ranks)["zero_optimization"] == {"stage": stage}

    @pytest.mark.parametrize(("ranks", "rounds"), [(1, 6), (2, 3), (3, 2)])
    def test_the_global_batch_is_kept_by_any_number_of_ranks(self, ranks: int, rounds: int) -> None:
        config = self.config("cpu", ranks=ranks, global_batch_size=24, micro_batch_size=4)
        assert config["gradient_accumulation_steps"] == rounds

    @pytest.mark.parametrize(
        ("stage", "offload", "expected"),
        [
            (2, "optimizer", {"offload_optimizer": {"device": "cpu"}}),
            (3, "parameters", {"offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "cpu"}}),
        ],
    )
    def test_offloads(self, stage: int, offload: str, expected: dict[str, Any]) -> None:
        config = self.config("cpu", deepspeed={"zero_stage": stage, "offload": offload})
        assert config["zero_optimization"] == {"stage": stage, **expected}

    @pytest.mark.parametrize(
        ("precision", "stage", "expected"),
        [
            ("bf16", 0, {"torch_autocast": {"enabled": True, "dtype": "bfloat16"}, "bf16": {"enabled": False}}),
            ("fp16", 0, {"torch_autocast": {"enabled": True, "dtype": "float16"}, "bf16": {"enabled": False}}),
            ("fp16", 2, {"fp16": {"enabled": True}, "bf16": {"enabled": False}}),
            ("fp32", 0, {"bf16": {"enabled": False}}),
        ],
    )
    def test_precision(self, precision: str, stage: int, expected: dict[str, Any]) -> None:
        config = self.config("cuda", precision=precision, deepspeed={"zero_stage": stage})
        assert {key: config[key] for key in ("bf16", "fp16", "torch_autocast") if key in config} == expected

    @pytest.mark.parametrize(
        ("base", "over", "expected"),
        [
            ({"a": 1}, {"a": {"b": 2}}, {"a": {"b": 2}}),
            ({"a": {"b": 1}}, {"a": 3}, {"a": 3}),
            ({"a": {"b": 1}}, {}, {"a": {"b": 1}}),
        ],
    )
    def test_merge(self, base: dict[str, Any], over: dict[str, Any], expected: dict[str, Any]) -> None:
        assert merge(base, over) == expected


class TestDataOrder:
    def test_every_epoch_shows_everything_once_in_an_order_of_its_own(self) -> None:
        first, second = numbers_at(0, 50, 50, seed=3), numbers_at(50, 50, 50, seed=3)
        assert sorted(first) == sorted(second) == list(range(50))
        assert first != second

    @pytest.mark.parametrize("size", [1, 3, 7])
    def test_it_does_not_matter_in_what_portions_it_is_asked(self, size: int) -> None:
        portions = [number for position in range(0, 42, size) for number in numbers_at(position, size, 10, seed=3)]
        assert portions[:42] == numbers_at(0, 42, 10, seed=3)

    @pytest.mark.parametrize(("available", "limit", "expected"), [(10, 5, [0, 2, 4, 6, 8]), (3, 5, [0, 1, 2])])
    def test_spread(self, available: int, limit: int, expected: list[int]) -> None:
        assert spread_numbers(available, limit) == expected


class TestTokenStore:
    def test_packs_documents_with_an_end_after_each(
        self, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        texts = [f"The garden is number {number}." for number in range(600)]
        monkeypatch.setattr(token_writer, "SHARD_TOKENS", 1000)
        token_writer.write_tokens(tmp_path / "train", texts, tokenizer)
        store = TokenStore(tmp_path / "train", sequence_length=16)
        everything = store.tokens(0, store.token_count)
        assert tokenizer.decode(everything.tolist()).split(tokenizer.eos_token) == [*texts, ""]
        assert (len(store), store.document_count) == ((store.token_count - 1) // 16, 600)
        assert len(list((tmp_path / "train").glob("0*.bin"))) == math.ceil(store.token_count / 1000) > 3
        for number in (0, 3, 62, len(store) - 1):  # the 63rd lies in two shards
            tokens, ends = store.sequence(number)
            assert tokens.tolist() == everything[number * 16 : number * 16 + 17].tolist()
            assert ends.tolist() == [place + 1 for place in range(16) if tokens[place] == tokenizer.eos_token_id]
        assert [path.name for path in tmp_path.iterdir()] == ["train"]

    def test_an_empty_corpus_has_no_sequence(self, tiny_model: Path, tmp_path: Path) -> None:
        from transformers import AutoTokenizer

        token_writer.write_tokens(tmp_path / "train", [], AutoTokenizer.from_pretrained(tiny_model))
        assert len(TokenStore(tmp_path / "train", 16)) == 0

    @pytest.mark.parametrize(("vocabulary", "dtype"), [(65_536, "uint16"), (65_537, "uint32")])
    def test_takes_the_smallest_type_that_holds_every_token(self, vocabulary: int, dtype: str) -> None:
        assert token_writer.dtype_for(vocabulary) == dtype


def test_a_fresh_model_guesses_evenly() -> None:
    """Golden value: the loss of a model that knows nothing is the logarithm of its vocabulary."""
    import torch

    from modelyard.workers.training.architecture import build_model
    from modelyard.workers.training.bpe import train_bpe, wrap_tokenizer

    tokenizer = wrap_tokenizer(train_bpe(["to be or not to be"] * 3, 300), 32)
    model = build_model(PretrainSpec(name="p", dataset="d", vocabulary_size=300), tokenizer)
    ids = torch.arange(4, 4 + 64).view(2, 32)
    assert model(input_ids=ids, labels=ids).loss.item() == pytest.approx(math.log(len(tokenizer)), abs=0.2)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("5M", 5_004_032), ("15M", 15_160_640), ("50M", 50_735_808), ("124M", 123_587_328), ("135M", 134_515_008),
        ("350M", 361_821_120), ("1B", 1_235_814_400), ("3B", 3_212_749_824), ("8B", 8_030_261_248),
    ],
)  # fmt: skip
def test_presets_have_the_parameters_transformers_counts(name: Any, parameters: int) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    preset = PRESETS[name]
    size = preset.architecture
    config = LlamaConfig(
        vocab_size=preset.vocabulary_size, hidden_size=size.hidden_size, intermediate_size=size.intermediate_size,
        num_hidden_layers=size.layers, num_attention_heads=size.heads, num_key_value_heads=size.key_value_heads,
        tie_word_embeddings=size.tied_embeddings,
    )  # fmt: skip
    with torch.device("meta"):
        assert LlamaForCausalLM(config).num_parameters() == parameters
    assert preset.parameters() == parameters


class TestBuildOptimizer:
    def test_muon_takes_matrices_alone_as_an_adapter_has_them(self) -> None:
        import torch

        from modelyard.domain.specs.finetuning import TuningOptimizerSpec
        from modelyard.workers.training.optimizers import build_optimizer

        chosen = TuningOptimizerSpec(name="muon", learning_rate=0.1)
        layer = torch.nn.Linear(4, 4, bias=False)
        before, optimizer = layer.weight.detach().clone(), build_optimizer(chosen, layer)
        layer(torch.ones(1, 4)).sum().backward()
        optimizer.step()
        assert not torch.equal(layer.weight, before)
        other = build_optimizer(chosen, layer)
        other.load_state_dict(optimizer.state_dict())
        assert torch.equal(*(each.state[layer.weight]["momentum_buffer"] for each in (optimizer.muon, other.muon)))


def test_an_adapter_that_is_no_number_is_not_called_a_failed_merge(tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from modelyard.workers.training.lora import merge_adapter

    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), LoraConfig(target_modules=["v_proj"]))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(weight, math.nan)
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(NotFinite, match="lower the learning rate"):
        merge_adapter(tiny_model, tmp_path / "adapter", tmp_path / "merged", "fp32", [1, 2, 3])

"""The pure parts of training: schedule, configuration, data order."""

import math
from pathlib import Path
from typing import Any

import pytest

from modelyard.domain.specs import parse_spec
from modelyard.workers.training.deepspeed_config import derive_config, merge
from modelyard.workers.training.schedule import learning_rate_at
from modelyard.workers.training.token_store import TokenStore, numbers_at, spread_numbers, write_tokens


class TestLearningRate:
    def test_warms_up_and_decays_to_a_tenth(self) -> None:
        rates = [learning_rate_at(step, 100, 1.0, 0.1) for step in range(100)]
        assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
        assert rates[10] == pytest.approx(1.0)
        assert rates[-1] == pytest.approx(0.1)
        assert rates[10:] == sorted(rates[10:], reverse=True)

    def test_one_step_without_warm_up(self) -> None:
        assert learning_rate_at(0, 1, 3.0, 0.0) == 3.0


class TestDeriveConfig:
    def config(self, device: str, **spec: Any) -> dict[str, Any]:
        return derive_config(parse_spec({"kind": "pretrain", "name": "p", "dataset": "d", **spec}), device)  # type: ignore[arg-type]

    @pytest.mark.parametrize(("device", "fused"), [("cpu", False), ("cuda", True)])
    def test_uses_the_optimizer_that_needs_no_compiler(self, device: str, fused: bool) -> None:
        parameters = self.config(device)["optimizer"]["params"]
        assert (parameters["torch_adam"], parameters["fused"]) == (True, fused)

    def test_the_override_wins_key_by_key(self) -> None:
        override = {"zero_optimization": {"reduce_bucket_size": 5}, "optimizer": {"params": {"eps": 1e-6}}}
        config = self.config("cpu", deepspeed={"zero_stage": 2, "override": override}, precision="bf16")
        assert config["zero_optimization"] == {"stage": 2, "reduce_bucket_size": 5}
        assert config["optimizer"]["params"]["eps"] == 1e-6
        assert config["optimizer"]["params"]["lr"] == 1e-3
        assert config["bf16"] == {"enabled": True}

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
    def test_packs_documents_with_an_end_after_each(self, tiny_model: Path, tmp_path: Path) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        texts = [f"The garden is number {number}." for number in range(600)]
        count = write_tokens(tmp_path / "tokens.bin", texts, tokenizer)
        store = TokenStore(tmp_path / "tokens.bin", sequence_length=16)
        assert (len(store.tokens), len(store)) == (count, count // 16)
        assert store.sequences([3, 0]).tolist() == [store.tokens[48:64].tolist(), store.tokens[:16].tolist()]
        assert tokenizer.decode(store.tokens.tolist()).split(tokenizer.eos_token) == [*texts, ""]
        assert [path.name for path in tmp_path.iterdir()] == ["tokens.bin"]

    def test_an_empty_corpus_has_no_sequence(self, tmp_path: Path) -> None:
        (tmp_path / "tokens.bin").touch()
        assert len(TokenStore(tmp_path / "tokens.bin", 16)) == 0


def test_a_fresh_model_guesses_evenly() -> None:
    """Golden value: the loss of a model that knows nothing is the logarithm of its vocabulary."""
    import torch

    from modelyard.workers.training.bpe import train_bpe, wrap_tokenizer
    from modelyard.workers.training.llama import build_model

    tokenizer = wrap_tokenizer(train_bpe(["to be or not to be"] * 3, 300), 32)
    spec = parse_spec({"kind": "pretrain", "name": "p", "dataset": "d", "vocabulary_size": 300})
    model = build_model(spec, tokenizer)  # type: ignore[arg-type]
    ids = torch.arange(4, 4 + 64).view(2, 32)
    assert model(input_ids=ids, labels=ids).loss.item() == pytest.approx(math.log(len(tokenizer)), abs=0.2)

"""What a spec of pre-training may choose: each choice trains, and golden losses tell when one begins to train otherwise."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.workers.recipe import EXIT_BAD_DATA

SIZE = {"hidden_size": 32, "intermediate_size": 64, "layers": 2, "heads": 2, "key_value_heads": 1}

TINY_LLAMA = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 64,
}  # fmt: skip


def document(dataset: Path, inputs: dict[str, Path] | None = None, **spec: Any) -> dict[str, Any]:
    named = {"preset", "config", "model"} & set(spec)
    base: dict[str, Any] = {} if named else {"architecture": SIZE}
    base |= {} if {"model", "tokenizer"} & set(spec) else {"vocabulary_size": 500}
    small = {"sequence_length": 32, "micro_batch_size": 4, "steps": 2, "evaluate_every": 2, "save_every": 2}
    return {
        "spec": {
            "kind": "pretrain", "name": "p", "dataset": "poems", **base, **small, "optimizer": {"learning_rate": 0.02}, **spec
        },
        "inputs": {name: {"path": str(path)} for name, path in {"dataset": dataset, **(inputs or {})}.items()},
        "resume_from": None,
    }  # fmt: skip


@pytest.fixture
def train(poems: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]) -> Callable[..., Any]:
    """Train to the end, or see it refused; return the run."""
    count = 0

    def run(ranks: int = 1, code: int = 0, inputs: dict[str, Path] | None = None, **spec: Any) -> Any:
        nonlocal count
        count += 1
        group = ranks_in(tmp_path / f"run-{count}")
        assert group.run("pretrain", document(poems, inputs, **spec), ranks=ranks) == [code] * ranks, group.logs
        return group

    return run


class TestGolden:
    @pytest.mark.parametrize(
        ("choice", "first", "second"),
        [
            ({}, 6.20774, 6.14082),
            pytest.param({"deepspeed": {"zero_stage": 1}}, 6.20774, 6.14082, marks=pytest.mark.slow),
            pytest.param({"deepspeed": {"zero_stage": 2}}, 6.20774, 6.14082, marks=pytest.mark.slow),
            ({"deepspeed": {"zero_stage": 3}}, 6.20774, 6.14082),
            pytest.param({"deepspeed": {"zero_stage": 2, "offload": "optimizer"}}, 6.20774, 6.14082, marks=pytest.mark.slow),
            pytest.param({"deepspeed": {"zero_stage": 3, "offload": "parameters"}}, 6.20774, 6.14082, marks=pytest.mark.slow),
            ({"optimizer": {"name": "muon", "learning_rate": 0.02}}, 6.20774, 6.22827),
            ({"optimizer": {"name": "adafactor", "learning_rate": 0.02}}, 6.20774, 6.20515),
            ({"optimizer": {"name": "sgd", "learning_rate": 0.5}}, 6.20774, 5.96344),
            ({"optimizer": {"scheduler": "linear", "floor": 0.0, "learning_rate": 0.02}, "steps": 3}, 6.20774, 6.14082),
            ({"activation_checkpointing": True}, 6.20774, 6.14082),
            pytest.param({"deterministic": True}, 6.20774, 6.14082, marks=pytest.mark.slow),
            ({"precision": "bf16"}, 6.20770, 6.14528),
            ({"documents": "joined"}, 6.20774, 6.14176),
            ({"sequence_length": 256}, 6.19859, 5.68852),
            ({"global_batch_size": 8, "micro_batch_size": 4}, 6.20395, 6.11952),
            ({"config": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}}, 6.21109, 5.95482),
        ],
        ids=lambda value: str(value) if isinstance(value, dict) else "",
    )
    def test_the_last_losses(self, train: Callable[..., Any], choice: dict[str, Any], first: float, second: float) -> None:
        run = train(**choice)
        losses, last = run.metric("loss"), max(run.metric("loss"))
        assert [losses[1], run.metric("validation_loss")[last]] == pytest.approx([first, second], abs=1e-4)


class TestRanks:
    @pytest.mark.slow
    def test_two_ranks_learn_what_one_learns(self, train: Callable[..., Any]) -> None:
        whole = {"global_batch_size": 8, "micro_batch_size": 4}
        one, two = train(**whole), train(ranks=2, **whole, deepspeed={"zero_stage": 2})
        for name in ("loss", "validation_loss", "gradient_norm"):
            assert one.metric(name) == pytest.approx(two.metric(name), rel=1e-5)


class TestFurther:
    def test_goes_on_where_the_base_ended(self, train: Callable[..., Any]) -> None:
        base = train(steps=12, evaluate_every=12, save_every=12)
        folder = base.folder / "outputs" / "model"
        further = train(inputs={"model": folder}, model="p@1", optimizer={"learning_rate": 1e-3})
        losses = further.metric("validation_loss")
        assert losses[0] == pytest.approx(base.metric("validation_loss")[12], abs=1e-6)
        assert losses[2] != losses[0]
        assert further.metadata("model")["vocabulary_size"] == base.metadata("model")["vocabulary_size"]
        self.reuses_the_tokenizer(train, folder)
        self.refuses_longer_sequences(train, folder)

    @staticmethod
    def reuses_the_tokenizer(train: Callable[..., Any], folder: Path) -> None:
        new = train(inputs={"tokenizer": folder}, tokenizer="p@1", preset="5M")
        assert new.metadata("model")["parameters"] == 3_955_456 + 256 * new.metadata("model")["vocabulary_size"]
        made = (new.folder / "outputs" / "model" / "tokenizer.json").read_text()
        assert made == (folder / "tokenizer.json").read_text()

    @staticmethod
    def refuses_longer_sequences(train: Callable[..., Any], folder: Path) -> None:
        run = train(code=EXIT_BAD_DATA, inputs={"model": folder}, model="p@1", sequence_length=64)
        assert "sequence_length 64 is more than the 32 positions of the model" in run.events("error")[0]["message"]


def test_a_configuration_counts_as_it_is_and_the_log_names_what_it_does_not_have(train: Callable[..., Any]) -> None:
    run = train(config={**TINY_LLAMA, "num_key_value_head": 1, "rope_theta": 5e5, "vocab_size": 600})
    assert "config.num_key_value_head: llama has no such setting" in run.logs[0]
    assert "rope_theta" not in run.logs[0]
    facts = run.metadata("model")
    assert (facts["vocabulary_size"], facts["tokenizer_size"]) == (600, 500)


class TestRefuse:
    @pytest.mark.parametrize(
        ("choice", "message"),
        [
            ({"precision": "fp16"}, "precision fp16 needs a GPU"),
            ({"config": {"model_type": "gpt2", "n_embd": 30, "n_head": 4}}, "config: no gpt2 can be built from it"),
            ({"config": {**TINY_LLAMA, "hidden_act": 5}}, "config: no llama can be built from it (StrictDataclassField"),
            ({"config": {**TINY_LLAMA, "model_type": "qwen3"}}, "config.num_key_value_heads: 32 does not divide num_attention_h"),
            ({"config": {**TINY_LLAMA, "vocab_size": 100}, "vocabulary_size": None}, "config.vocab_size 100 is less than the"),
            ({"deepspeed": {"override": {"zero_optimization": {"reduce_bucket_size": "x"}}}}, "DeepSpeed does not take it"),
            ({"global_batch_size": 12, "micro_batch_size": 4}, "12 is not a multiple of micro_batch_size 4 × 2 ranks"),
        ],
        ids=lambda value: str(value) if isinstance(value, dict) else "",
    )
    def test_what_shows_only_at_work(self, train: Callable[..., Any], choice: dict[str, Any], message: str) -> None:
        run = train(ranks=2 if "global_batch_size" in choice else 1, code=EXIT_BAD_DATA, **choice)
        assert message in run.events("error")[0]["message"]


def test_tokens_are_shared_by_jobs(train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second job of the same dataset and tokenizer finds them; another tokenizer makes its own; none are kept forever."""
    monkeypatch.setenv("MODELYARD_CACHE_DIR", str(tmp_path / "cache"))
    base = train()
    (first,) = (tmp_path / "cache" / "tokens").iterdir()
    written = {path: path.stat().st_mtime_ns for path in first.glob("*/*.bin")}
    assert len(written) == 4
    again = train(inputs={"tokenizer": base.folder / "outputs" / "model"}, tokenizer="p@1")
    assert {path: path.stat().st_mtime_ns for path in first.glob("*/*.bin")} == written
    assert again.metric("loss")[1] == base.metric("loss")[1]
    os.utime(first / "used", (0, 0))
    train(vocabulary_size=400)
    (second,) = (tmp_path / "cache" / "tokens").iterdir()
    assert second != first

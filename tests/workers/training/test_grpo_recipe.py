"""Tuning by rewards, by real processes: the reward rises, and a resumed run gives the very same answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.workers.recipe import EXIT_BAD_DATA, EXIT_SAVED

GOLDEN_REWARDS = [66 / 132, 29 / 132, 15 / 132]
"""The mean rewards of three steps. They change only when sampling or the mathematics do."""

Start = Callable[..., Any]


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a prepared dataset of problems."""
    folder = tmp_path_factory.mktemp("problems")
    for split, numbers in (("train", range(24)), ("heldout", range(24, 32))):
        rows = [{"messages": [{"role": "user", "content": f"Which house is {n}?"}], "answer": str(n)} for n in numbers]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "dataset.json").write_text(json.dumps({"schema": "problems"}))
    return folder


@pytest.fixture
def start(tiny_model: Path, problems: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]) -> Start:
    """Run the recipe in a folder of that name and return its ranks; fails unless it ends as expected."""

    def start(
        name: str, code: int = 0, ranks: int = 1, stop: str | None = None, resume_from: Path | None = None, **spec: Any
    ) -> Any:
        small = {"sequence_length": 64, "max_new_tokens": 12, "micro_batch_size": 2, "group_size": 6, "steps": 3}
        rewards = [
            {"name": "contains", "text": "e"},
            {"name": "length_penalty", "free_tokens": 1},
            {"name": "contains", "text": "a"},
        ]
        seldom = {"evaluate_every": 100, "save_every": 100, "rewards": rewards}
        quick = {"optimizer": {"learning_rate": 0.01, "warmup_ratio": 0.0}, "lora": {"target_modules": "all-linear"}}
        document = {
            "spec": {"kind": "grpo", "name": "g", "model": "tiny", "dataset": "problems", **small, **seldom, **quick, **spec},
            "inputs": {
                "model": {"path": str(tiny_model), "type": "model", "id": "model_1", "name": "tiny", "version": 1},
                "dataset": {"path": str(problems), "type": "dataset", "id": "dataset_1", "name": "problems", "version": 1},
            },
            "resume_from": str(resume_from) if resume_from else None,
        }
        started = ranks_in(tmp_path / name)
        assert started.run("grpo", document, ranks=ranks, stop=stop) == [code] * ranks, started.logs
        return started

    return start


class TestReward:
    def test_a_resumed_run_gives_the_answers_of_the_unbroken_one(self, start: Start) -> None:
        whole, first = start("whole", beta=0.1), start("first", beta=0.1, stop="drained", code=EXIT_SAVED)
        assert list(whole.metric("reward").values()) == pytest.approx(GOLDEN_REWARDS, abs=1e-6)
        # At the first step the model is its own reference.
        assert whole.metric("kl")[1] == pytest.approx(0, abs=1e-6)
        assert whole.metric("kl")[2] > 1e-4
        second = start("second", beta=0.1, resume_from=first.folder / "checkpoints" / "step-00000001")
        for name in ("reward", "reward_std", "answer_tokens", "groups_without_spread", "gradient_norm", "kl"):
            assert first.metric(name) | second.metric(name) == whole.metric(name)
        assert set(whole.metric("model_flops_per_second")) == {1, 2, 3}
        assert set(whole.metric("data_wait_share")) == {1, 3}
        assert whole.events("figures")[-1]["values"]["peak_memory_bytes"] > 0
        found = whole.metadata("model")
        assert found["validation_reward"] == -found["validation_loss"]
        assert "| group_size | 6 |" in (whole.folder / "outputs" / "adapter" / "model_card.md").read_text()

    @pytest.mark.slow
    def test_the_reward_rises(self, start: Start) -> None:
        ranks = start("run", method="full", steps=40, rewards=[{"name": "contains", "text": "w"}], micro_batch_size=4)
        rewards = list(ranks.metric("reward").values())
        assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.3, rewards
        assert ranks.metadata("model")["validation_reward"] > ranks.metadata("model")["validation_reward_first"]

    @pytest.mark.slow
    def test_two_ranks_answer_and_learn(self, start: Start) -> None:
        pair = start("pair", ranks=2, deepspeed={"zero_stage": 2}, beta=0.1, packing=False, gradient_accumulation_steps=2)
        assert all(norm > 0 for norm in pair.metric("gradient_norm").values())

    def test_problems_without_room_are_refused(self, start: Start) -> None:
        (error,) = start("refused", code=EXIT_BAD_DATA, sequence_length=16).events("error")
        assert "all 24 are longer than the 4 tokens that sequence_length 16 leaves beside max_new_tokens 12" in error["message"]

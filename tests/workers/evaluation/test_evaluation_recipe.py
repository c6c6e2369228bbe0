"""The evaluate recipe as a process, on tiny models."""

import json
from math import exp
from pathlib import Path
from typing import Any

import pytest

MODULE = "evaluation.recipes.compare"


@pytest.fixture
def document(tiny_model: Path, other_tiny_model: Path, chat_dataset: Path) -> dict[str, Any]:
    return {
        "spec": {"kind": "evaluate", "name": "e", "base": "b", "candidate": "c", "dataset": "d"}
        | {"items": 16, "generate_items": 4, "max_new_tokens": 6, "bootstrap_samples": 500},
        "inputs": {
            "base": {"path": str(tiny_model), "id": "model_base"},
            "candidate": {"path": str(other_tiny_model), "id": "model_candidate"},
            "dataset": {"path": str(chat_dataset), "id": "dataset_1"},
        },
    }


class TestEvaluate:
    @pytest.mark.slow
    def test_the_gate_follows_the_measured_interval(self, recipe: Any, document: dict[str, Any]) -> None:
        code, log = recipe.run(MODULE, document)
        assert code == 0, log
        [output] = recipe.events("output")
        folder = recipe.folder / output["path"]
        evaluation = json.loads((folder / "evaluation.json").read_text())
        rows = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
        assert len(rows) == 16
        for name in ("base", "candidate"):
            total = sum(row[name]["nll"] * row[name]["tokens"] for row in rows)
            tokens = sum(row[name]["tokens"] for row in rows)
            assert evaluation["metrics"][name]["perplexity"] == pytest.approx(exp(total / tokens), rel=1e-4)
        interval = evaluation["gate"]["interval"]
        gain = evaluation["metrics"]["base"]["nll"] - evaluation["metrics"]["candidate"]["nll"]
        assert interval["gain"] == pytest.approx(gain, abs=1e-5)
        assert evaluation["gate_passed"] is (interval["low"] > 0)
        metadata = output["metadata"]
        assert (metadata["candidate_id"], metadata["base_id"]) == ("model_candidate", "model_base")
        assert metadata["gate_passed"] is recipe.figures()["gate_passed"] is evaluation["gate_passed"]
        assert sum("answer" in row["candidate"] for row in rows) == 4

"""The prompt recipe as a process, on a tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest

from modelyard.workers.recipe import EXIT_BAD_DATA, EXIT_SAVED

MODULE = "prompts.recipes.compare"


@pytest.fixture
def document(tiny_model: Path, chat_dataset: Path) -> dict[str, Any]:
    templates = [{"name": "plain"}, {"name": "kind", "system": "Be kind."}, {"name": "wrapped", "user": "Q: {prompt}"}]
    return {
        "spec": {"kind": "prompt", "name": "p", "model": "m", "dataset": "d", "templates": templates, "items": 12}
        | {"generate_items": 4, "max_new_tokens": 6},
        "inputs": {"model": {"path": str(tiny_model), "id": "model_1"}, "dataset": {"path": str(chat_dataset)}},
    }


class TestComparePrompts:
    def test_the_template_with_the_most_likely_references_wins(self, recipe: Any, document: dict[str, Any]) -> None:
        code, log = recipe.run(MODULE, document)
        assert code == 0, log
        [output] = recipe.events("output")
        prompt = json.loads((recipe.folder / output["path"] / "prompt.json").read_text())
        likelihoods = {name: scores["nll"] for name, scores in prompt["scores"].items()}
        assert set(likelihoods) == {"plain", "kind", "wrapped"}
        ordered = sorted(likelihoods, key=lambda name: likelihoods[name])
        assert [prompt["template"], prompt["runner_up"]] == ordered[:2]
        gap = likelihoods[ordered[1]] - likelihoods[ordered[0]]
        assert prompt["interval"]["gain"] == pytest.approx(gap, abs=1e-5)
        assert prompt["interval"]["low"] < gap < prompt["interval"]["high"]
        chosen = next(template for template in document["spec"]["templates"] if template["name"] == prompt["template"])
        assert (prompt["system"], prompt["user"]) == (chosen.get("system"), chosen.get("user", "{prompt}"))
        assert output["metadata"]["template"] == prompt["template"]
        assert recipe.figures()["perplexity"] == prompt["scores"][prompt["template"]]["perplexity"]
        assert recipe.events("progress")[-1]["fraction"] == 1.0

    def test_leaves_when_asked(self, recipe: Any, document: dict[str, Any]) -> None:
        recipe.folder.mkdir()
        (recipe.folder / "control").write_text("cancelled")
        code, log = recipe.run(MODULE, document)
        assert code == EXIT_SAVED, log
        assert recipe.events("output") == []

    def test_a_text_dataset_is_bad_data(self, recipe: Any, document: dict[str, Any], tmp_path: Path) -> None:
        (tmp_path / "dataset.json").write_text('{"schema": "text"}')
        document["inputs"]["dataset"]["path"] = str(tmp_path)
        code, _ = recipe.run(MODULE, document)
        assert code == EXIT_BAD_DATA
        assert "schema: chat" in recipe.events("error")[0]["message"]

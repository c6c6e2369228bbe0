"""The monitor recipe as a process."""

import json
from pathlib import Path
from typing import Any

import pytest

from modelyard.workers.recipe import EXIT_BAD_DATA

MODULE = "monitoring.recipes.report"


def interaction(number: int, question: str, **fields: Any) -> dict[str, Any]:
    created_at = f"2026-03-01T10:{number // 60:02d}:{number % 60:02d}+00:00"
    values = {"id": f"i{number}", "created_at": created_at, "messages": [{"role": "user", "content": question}]}
    values |= {"answer": "<i>fine</i>", "status": 200, "latency_seconds": 0.5 + number / 100, "streamed": False}
    tokens = {"time_to_first_token_seconds": None, "prompt_tokens": 9, "completion_tokens": 5}
    return {**values, **tokens, **fields}


def house(number: int) -> str:
    """Ask as the reference dataset does."""
    topics = ["apple", "river", "engine", "violin", "planet", "garden", "harbour", "winter", "letter", "castle"]
    return f"What can you tell me about the {topics[number % 10]} of house {number}" + ", and why" * (number % 4) + "?"


@pytest.fixture
def document(tmp_path: Path, chat_dataset: Path) -> dict[str, Any]:
    (tmp_path / "deployment").mkdir()
    return {
        "spec": {"kind": "monitor", "name": "watch", "deployment": "d", "reference": "r"},
        "inputs": {"deployment": {"path": str(tmp_path / "deployment")}, "reference": {"path": str(chat_dataset)}},
    }


def export(document: dict[str, Any], interactions: list[dict[str, Any]]) -> None:
    path = Path(document["inputs"]["deployment"]["path"]) / "interactions.jsonl"
    path.write_text("".join(json.dumps(interaction) + "\n" for interaction in interactions))


class TestMonitor:
    def test_prompts_like_those_of_training(self, recipe: Any, document: dict[str, Any]) -> None:
        asked = [interaction(number, house(number)) for number in range(40)]
        # Refused requests count as errors, and their prompts, which the model never saw, do not count as drift.
        refused = [interaction(40 + number, f"SELECT {number}", status=400) for number in range(9)]
        refused.append(interaction(49, "", status=422, messages=["not a message"]))
        export(document, asked + refused)
        code, log = recipe.run(MODULE, document)
        assert code == 0, log
        figures = recipe.figures()
        assert figures["drift_p_value"] > 0.05
        assert figures["drift_detected"] is False
        assert figures["completion_tokens"] == 200
        assert figures["error_share"] == pytest.approx(0.2)
        [output] = recipe.events("output")
        assert output["output_type"] == "monitor_report"
        report = json.loads((recipe.folder / output["path"] / "report.json").read_text())
        assert report["service"]["latency_p50_seconds"] == pytest.approx(0.695)
        page = (recipe.folder / output["path"] / "report.html").read_text()
        assert "&lt;i&gt;fine&lt;/i&gt;" in page
        assert "http" not in page
        assert page.count("<svg") == 2

    def test_other_prompts_drift_and_only_the_most_recent_count(self, recipe: Any, document: dict[str, Any]) -> None:
        document["spec"]["max_interactions"] = 30
        old = [interaction(number, house(number)) for number in range(100)]
        recent = [interaction(200 + number, f"Write SQL to join table {number}") for number in range(30)]
        export(document, [*recent, *old])
        code, log = recipe.run(MODULE, document)
        assert code == 0, log
        assert recipe.figures()["requests"] == 30
        assert recipe.figures()["drift_p_value"] == pytest.approx(1 / 201, abs=1e-5)
        assert recipe.figures()["drift_detected"] is True

    @pytest.mark.parametrize(
        ("interactions", "words"),
        [
            ([], "answered no request yet"),
            ([interaction(1, "one")], "2 or more texts"),
            ([interaction(1, "one", latency_seconds=-1)], "interactions.jsonl line 1: latency_seconds"),
        ],
    )
    def test_says_what_is_missing(
        self, recipe: Any, document: dict[str, Any], interactions: list[dict[str, Any]], words: str
    ) -> None:
        export(document, interactions)
        code, log = recipe.run(MODULE, document)
        assert code == EXIT_BAD_DATA, log
        assert words in recipe.events("error")[0]["message"]

"""From start to stop: a server is ready only when it answers, and leaves in order."""

import json
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from running_server import MODULE, RunningServer, deployment

from modelyard.domain.specs.prompts import Template
from modelyard.workers.conversations import apply_template
from modelyard.workers.language_model import load_language_model
from modelyard.workers.recipe import EXIT_BAD_DATA, EXIT_SAVED

QUESTION = "What is the river?"
TEMPLATE = {"name": "kind", "template": "kind", "system": "Be kind.", "user": "Q: {prompt} A:"}


class TestStop:
    def test_running_answers_are_finished_and_new_ones_refused(self, recipe: Any, endless_model: Path) -> None:
        process = recipe.start(MODULE, deployment(endless_model))
        server = RunningServer(recipe.wait_for("ready", process)["url"], endless_model)
        stream = server.ask(QUESTION, stream=True, max_tokens=600)
        first = next(stream)
        (recipe.folder / "control").write_text("drained")
        rest = list(stream)
        log, _ = process.communicate(timeout=60)
        assert process.returncode == EXIT_SAVED, log
        assert first.choices[0].finish_reason is None
        assert rest[-1].choices[0].finish_reason == "length"
        assert rest[-1].usage.completion_tokens == 600
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{server.url}/health")

    def test_sigterm_means_the_same_and_the_template_is_applied(self, recipe: Any, endless_model: Path, tmp_path: Path) -> None:
        (tmp_path / "prompt.json").write_text(json.dumps(TEMPLATE))
        process = recipe.start(MODULE, deployment(endless_model, prompt={"path": str(tmp_path)}))
        server = RunningServer(recipe.wait_for("ready", process)["url"], endless_model)
        answer = server.ask(QUESTION)
        process.send_signal(signal.SIGTERM)
        log, _ = process.communicate(timeout=60)
        assert process.returncode == EXIT_SAVED, log

        model = load_language_model(endless_model)
        template = Template(name="kind", system="Be kind.", user="Q: {prompt} A:")
        shaped = apply_template([{"role": "user", "content": QUESTION}], template)
        assert answer.usage.prompt_tokens == len(model.encode_prompt(shaped))
        assert answer.choices[0].message.content.strip() == next(model.answer_greedily([shaped], 12))[1]
        assert recipe.figures()["seconds_to_ready"] > 0


class TestRefuseToStart:
    def test_without_a_token(self, recipe: Any, endless_model: Path) -> None:
        document = deployment(endless_model)
        document["options"] = {}
        code, log = recipe.run(MODULE, document)
        assert code == EXIT_BAD_DATA, log
        assert "bearer token" in recipe.events("error")[0]["message"]
        assert recipe.events("ready") == []

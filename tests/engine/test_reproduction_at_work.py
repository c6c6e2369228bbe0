"""Real trainings run again: on a processor with the same threads the same comes out, and where not it is said where."""

import json
import subprocess
import sys

import pytest

from tests.engine.conftest import CORPUS, TINY, Document, Yard

SHORT: Document = {**TINY, "steps": 8, "evaluate_every": 4, "save_every": 8}
CHATS: Document = {
    "kind": "prepare", "name": "chats", "schema": "chat", "max_rows": 60,
    "sources": [
        {
            "files": {"package": "chatterbot-corpus", "files": "chatterbot_corpus/data/english/greetings.yml"},
            "format": "chatterbot",
        }
    ],
}  # fmt: skip
TUNE: Document = {
    "kind": "finetune", "name": "tuned", "model": "tiny", "dataset": "chats", "sequence_length": 32, "micro_batch_size": 2,
    "steps": 4, "evaluate_every": 4, "save_every": 4, "lora": {"rank": 2, "alpha": 4},
}  # fmt: skip


def reproduce(yard: Yard, job_id: str) -> tuple[int, Document]:
    """Run the command; return its exit code and what it found."""
    environment = {**yard.environment, "MODELYARD_URL": yard.ready["api_url"], "MODELYARD_API_KEY": yard.ready["api_key"]}
    command = [sys.executable, "-m", "modelyard.cli", "reproduce", job_id, "--wait", "--timeout", "120", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


class TestReproduce:
    @pytest.mark.slow
    def test_a_pre_training_and_a_fine_tuning_come_out_identical(self, yard: Yard) -> None:
        yard.start_worker("work", "prepare,pretrain,finetune")
        for spec in (CORPUS, CHATS):
            yard.wait_for_state(yard.submit(spec), "succeeded")
        trained = self.check(yard, SHORT)
        tuned = self.check(yard, {**TUNE, "model": "tiny@1"})
        manifest = yard.client.get(f"/v1/jobs/{tuned}/manifest")["manifest"]
        assert manifest["inputs"]["model"]["id"] == yard.job(trained)["outputs"]["model"]["id"]
        assert {"torch", "transformers", "peft", "deepspeed"} <= manifest["packages"].keys()

    def check(self, yard: Yard, spec: Document) -> str:
        job_id = yard.submit(spec)
        job = yard.wait_for_state(job_id, "succeeded")
        code, found = reproduce(yard, job_id)
        assert (code, found["is_identical"]) == (0, True), found
        assert found["points_compared"] >= 3 * spec["steps"]
        assert found["files_compared"] >= 3
        assert found["different_fields"] == [], "the same machine, the same code, the same inputs"
        manifest = yard.client.get(f"/v1/jobs/{job_id}/manifest")["manifest"]
        assert manifest["spec"]["steps"] == spec["steps"]
        assert manifest["inputs"]["dataset"]["sha256"]
        assert manifest["inputs"]["dataset"]["id"] == job["inputs"]["dataset"]["id"]
        return job_id

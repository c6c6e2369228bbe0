"""Probes run by a real worker: what a few steps took stands beside the plan, and nothing of them is kept."""

import pytest

from tests.engine.conftest import CORPUS, TINY, Document, Yard

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
    "steps": 400, "lora": {"rank": 2, "alpha": 4},
}  # fmt: skip


class TestProbe:
    @pytest.mark.slow
    def test_a_probe_measures_and_keeps_nothing(self, yard: Yard) -> None:
        yard.start_worker("work", "prepare,pretrain,finetune")
        for spec in (CORPUS, CHATS):
            yard.wait_for_state(yard.submit(spec), "succeeded")
        self.check(yard, {**TINY, "steps": 5000})
        assert yard.client.get("/v1/models")["data"] == []
        yard.wait_for_state(yard.submit({**TINY, "steps": 2, "save_every": 2}), "succeeded")
        self.check(yard, TUNE)
        assert [model["name"] for model in yard.client.get("/v1/models")["data"]] == ["tiny"]

    def check(self, yard: Yard, spec: Document) -> None:
        planned = yard.client.post("/v1/jobs/plan", {"spec": spec, "probe": True})
        job = yard.wait_for_state(planned["probe"]["id"], "succeeded")
        assert (job["spec"]["steps"], job["outputs"]) == (3, {})
        assert yard.rows(job["id"], "checkpoints") == []
        found = yard.client.get(f"/v1/jobs/{job['id']}/plan")
        # Of the probe itself: it saves once, at its end.
        assert found["memory"]["rank_bytes"] == pytest.approx(planned["memory"]["rank_bytes"], rel=0.1)
        assert found["measured"]["step_seconds"] > 0
        # Libraries are most of what so small a model takes.
        assert found["measured"]["peak_memory_bytes"] == pytest.approx(found["memory"]["rank_bytes"], rel=0.3)

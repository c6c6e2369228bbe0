"""Kill -9 of whatever runs: nothing accepted is lost, and training goes on from its checkpoint."""

import pytest

from tests.engine.conftest import CORPUS, TINY, Document, Yard, kill, wait_for


def checkpoint_of(yard: Yard, job_id: str, attempt: int) -> Document | None:
    """The newest checkpoint an attempt has saved."""
    return next((each for each in yard.rows(job_id, "checkpoints") if each["attempt"] == attempt), None)


class TestRecover:
    @pytest.mark.slow
    def test_a_killed_runner_then_a_killed_machine(self, yard: Yard) -> None:
        yard.start_worker("data", "prepare")
        yard.wait_for_state(yard.submit(CORPUS), "succeeded")
        first_worker = yard.start_worker("first", "pretrain")
        job_id = yard.submit({**TINY, "steps": 800, "save_every": 25}, resources={"slots": 2})

        wait_for(lambda: checkpoint_of(yard, job_id, 1), "a checkpoint of the first attempt")
        ranks = yard.processes_of(job_id, "recipes")
        assert len(ranks) == 2
        kill(*yard.processes_of(job_id, "runner"))
        for rank in ranks:
            rank.wait(timeout=30)  # no rank outlives its runner

        wait_for(lambda: checkpoint_of(yard, job_id, 2), "a checkpoint of the second attempt")
        ranks = yard.processes_of(job_id, "recipes")
        kill(first_worker, *yard.processes_of(job_id, "runner"))
        for rank in ranks:
            rank.wait(timeout=30)

        yard.start_worker("second", "pretrain")
        done = yard.wait_for_state(job_id, "succeeded")
        attempts = yard.rows(job_id, "attempts")
        assert [attempt["outcome"] for attempt in attempts] == ["runner_lost", "node_lost", "succeeded"]
        assert [attempt["worker_id"].split("@")[0] for attempt in attempts] == ["first", "first", "second"]
        resumed = [attempt["resumed_from_step"] for attempt in attempts]
        assert resumed[0] is None
        assert 0 < resumed[1] < resumed[2], "each attempt went on from the newest checkpoint"
        self.covers_every_step(yard, job_id, resumed)
        assert done["outputs"]["model"]["id"].startswith("mdl_")

    def covers_every_step(self, yard: Yard, job_id: str, resumed: list[int]) -> None:
        points = yard.client.get(f"/v1/jobs/{job_id}/metrics", name="loss", limit=5000)["data"]
        assert max(point["step"] for point in points) == 800
        for attempt, step in enumerate(resumed[1:], start=2):
            assert min(point["step"] for point in points if point["attempt"] == attempt) > step, "no step before it was redone"


class TestFail:
    def test_a_recipe_that_crashes_says_why_with_its_last_lines(self, yard: Yard) -> None:
        yard.start_worker("data", "prepare")
        yard.wait_for_state(yard.submit(CORPUS), "succeeded")
        yard.start_worker("train", "pretrain")
        broken = {
            **TINY,
            "deepspeed": {"zero_stage": 1, "override": {"optimizer": {"type": "SGD", "params": {"no_such_option": 1}}}},
        }
        job_id = yard.submit(broken)
        failed = yard.wait_for_state(job_id, "failed")
        assert failed["error"]["reason"] == "bad_data"
        explained = yard.client.get(f"/v1/jobs/{job_id}/explain")
        assert "no_such_option" in explained["summary"]
        assert "no_such_option" in "\n".join(explained["log_lines"])
        assert explained["fix"]

    def test_bad_rows_fail_the_job_and_make_nothing(self, yard: Yard) -> None:
        path = yard.folder / "rows.jsonl"
        path.write_text('{"messages": [{"role": "user", "content": "hi"}]}\n{"text": "no messages here"}\n')
        yard.client.upload_dataset(path, "rows")
        yard.start_worker("data", "prepare")
        job_id = yard.submit({"kind": "prepare", "name": "chats", "schema": "chat", "sources": [{"dataset": "rows"}]})
        failed = yard.wait_for_state(job_id, "failed")
        assert failed["error"]["reason"] == "bad_data"
        assert "line" in failed["error"]["message"]
        assert yard.client.get("/v1/datasets", name="chats")["data"] == []

"""Trying again and taking over, with real training."""

import pytest

from tests.engine.conftest import CORPUS, TINY, Document, Yard, wait_for

pytestmark = pytest.mark.slow
STEPS = 400


def steps_of(yard: Yard, pipeline: Document) -> dict[str, Document]:
    """The jobs of a pipeline that succeeded, by step."""
    path = f"/v1/pipelines/{pipeline['id']}"
    done = wait_for(lambda: (found := yard.client.get(path))["state"] != "running" and found, "the pipeline to end")
    assert done["state"] == "succeeded", [(job["step"], job["message"]) for job in done["jobs"]]
    return {job["step"]: job for job in done["jobs"]}


class TestRetry:
    def test_goes_on_from_the_last_checkpoint_and_is_never_made_twice(self, yard: Yard) -> None:
        yard.start_worker("data", "prepare")
        yard.start_worker("train", "pretrain")
        training = {**TINY, "dataset": "${corpus}", "steps": STEPS, "save_every": 20}
        body = {"name": "tiny", "reuse": True, "jobs": {"corpus": {"spec": CORPUS}, "model": {"spec": training}}}
        pipeline = yard.client.submit_pipeline(body)
        first = {job["step"]: job["id"] for job in pipeline["jobs"]}["model"]
        wait_for(lambda: yard.rows(first, "checkpoints"), "a checkpoint")
        yard.client.cancel_job(first)
        yard.wait_for_state(first, "cancelled")

        again = yard.client.post(f"/v1/jobs/{first}/retry")
        assert again["retry_of"] == first
        steps = steps_of(yard, pipeline)
        assert steps["model"]["id"] == again["id"]
        (attempt,) = yard.rows(again["id"], "attempts")
        newest_saved = max(row["step"] for row in yard.rows(first, "checkpoints"))
        assert attempt["resumed_from_step"] == newest_saved > 0
        points = yard.client.get(f"/v1/jobs/{again['id']}/metrics", name="loss", limit=5000)["data"]
        assert newest_saved < min(point["step"] for point in points) <= max(point["step"] for point in points) == STEPS

        reused = steps_of(yard, yard.client.submit_pipeline(body))
        assert {name: job["reused_from"] for name, job in reused.items()} == {name: job["id"] for name, job in steps.items()}
        assert reused["model"]["outputs"] == steps["model"]["outputs"]

"""What a job ran with, and whether running it again made the same, over HTTP."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from running_api import Api

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.recording import Batch, record
from modelyard.domain.jobs.tables import Job
from modelyard.workers.runner.outputs import register_outputs, store_outputs

Check = Callable[..., dict[str, Any]]


def run_to_its_end(api: Api, job: Job, folder: Path, losses: list[float], weights: str, threads: int = 1) -> Job:
    """Let a waiting job succeed as a runner would: it reports its manifest and losses, and makes a model."""
    claimed = api.factory.claimed(job)
    manifest = {"seed": 0, "torch": {"threads": threads}}
    events: list[dict[str, Any]] = [{"type": "manifest", "at": 1.0, "manifest": manifest}]
    events += [
        {"type": "metric", "at": 2.0, "step": step, "values": {"loss": loss, "tokens_per_second": 1000.0 / (len(weights) + loss)}}
        for step, loss in enumerate(losses, start=1)
    ]
    output = folder / job.id / "outputs" / "model"
    output.mkdir(parents=True)
    (output / "model.safetensors").write_text(weights)
    (output / "model_card.md").write_text(f"made by {job.id}")
    event = {"name": "model", "output_type": "model", "path": "outputs/model", "metadata": {"name": "tiny"}}
    made = store_outputs(api.app.state.platform.store, claimed, folder / job.id, [event])
    with api.factory.database.write() as session:
        record(session, job.id, 1, Batch(events, events_offset=1), 3.0)
        outputs = register_outputs(session, claimed, made)
        return finish(session, job.id, 1, Outcome.SUCCEEDED, outputs=outputs)


def train(api: Api, folder: Path) -> Job:
    """A training that succeeded."""
    api.factory.registered()
    return run_to_its_end(api, api.factory.job("pretrain"), folder, [2.5, 2.25], "weights")


def reproduce(api: Api, original: Job) -> Job:
    """Ask for a reproduction; return its row."""
    answer = api.client.post(f"/v1/jobs/{original.id}/reproduce")
    assert answer.status_code == 202, answer.text
    made: Job = api.factory.get(Job, answer.json()["id"])
    return made


class TestReproduce:
    def test_identical(self, api_on_both: Api, tmp_path: Path) -> None:
        api = api_on_both
        original = train(api, tmp_path)
        api.factory.registered(content="b")  # a newer version of the dataset: the reproduction still takes the old one
        made = reproduce(api, original)
        assert (made.reproduces, made.retry_of, made.spec, made.inputs) == (original.id, None, original.spec, original.inputs)
        waiting = api.client.get(f"/v1/jobs/{made.id}/reproduction").json()
        assert (waiting["is_identical"], waiting["state"]) == (None, "queued")
        run_to_its_end(api, made, tmp_path, [2.5, 2.25], "weights")
        found = api.client.get(f"/v1/jobs/{made.id}/reproduction").json()
        assert found["is_identical"] is True, found
        assert (found["points_compared"], found["files_compared"], found["different_fields"]) == (2, 1, [])
        assert found["summary"] == "Identical: 2 values of metrics and 1 of the files made are the same to the last bit"

    def test_different(self, api_on_both: Api, tmp_path: Path) -> None:
        api = api_on_both
        original = train(api, tmp_path)
        made = run_to_its_end(api, reproduce(api, original), tmp_path, [2.5, 2.2500000000000004], "others", threads=2)
        found = api.client.get(f"/v1/jobs/{made.id}/reproduction").json()
        assert found["is_identical"] is False
        assert found["first_different_points"] == [
            {"step": 2, "metric": "loss", "original": 2.25, "reproduction": 2.2500000000000004}
        ]
        assert [(each["output"], each["file"]) for each in found["different_files"]] == [("model", "model.safetensors")]
        assert found["different_fields"] == [{"field": "torch.threads", "original": 1, "reproduction": 2}]
        assert "the first at step 2: loss was 2.25 and is 2.2500000000000004" in found["summary"]
        assert found["summary"].endswith("They ran with different torch.threads")

    def test_refused(self, api: Api, tmp_path: Path, check_problem: Check) -> None:
        waiting = api.factory.job()
        answer = check_problem(api.client.post(f"/v1/jobs/{waiting.id}/reproduce"), 409, "not_reproducible", "job_id")
        assert "only a job that succeeded" in answer["detail"]
        answer = check_problem(api.client.get(f"/v1/jobs/{waiting.id}/reproduction"), 404, "not_found", "job_id")
        assert "reproduces no other" in answer["detail"]
        foreign = api.with_key(api.key(project="other"))
        api.factory.update(waiting, state="cancelled")
        for path in ("reproduction", "manifest"):
            check_problem(foreign.get(f"/v1/jobs/{waiting.id}/{path}"), 404, "not_found")

    def test_outputs_that_are_gone(self, api: Api, tmp_path: Path, check_problem: Check) -> None:
        original = train(api, tmp_path)
        made = run_to_its_end(api, reproduce(api, original), tmp_path, [2.5, 2.25], "weights")
        api.app.state.platform.store.delete(f"model/{original.id}-1-model")
        answer = check_problem(api.client.get(f"/v1/jobs/{made.id}/reproduction"), 409, "nothing_to_compare")
        assert original.id in answer["detail"]


class TestManifest:
    def test_is_kept_with_its_attempt_and_out_of_the_events(self, api_on_both: Api, tmp_path: Path, check_problem: Check) -> None:
        api = api_on_both
        waiting = api.factory.job("import")
        answer = check_problem(api.client.get(f"/v1/jobs/{waiting.id}/manifest"), 404, "no_manifest", "job_id")
        assert "training jobs write one" in answer["detail"]
        job = train(api, tmp_path)
        shown = api.client.get(f"/v1/jobs/{job.id}/manifest").json()
        assert (shown["attempt"], shown["manifest"]) == (1, {"seed": 0, "torch": {"threads": 1}})
        assert "manifest" not in {event["type"] for event in api.client.get(f"/v1/jobs/{job.id}/events").json()["data"]}

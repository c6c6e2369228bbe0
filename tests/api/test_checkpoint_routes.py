"""Checkpoints over HTTP: look, verify, remove, and begin another job at one."""

from pathlib import Path
from typing import Any

import pytest
from factories import spec_of, write
from running_api import Api

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.recording import add_checkpoint
from modelyard.domain.jobs.tables import Job
from modelyard.kit.storage import ArtifactStore
from modelyard.scheduler.retention import sweep_checkpoints

Document = dict[str, Any]


@pytest.fixture
def store(api_on_both: Api) -> ArtifactStore:
    store: ArtifactStore = api_on_both.app.state.platform.store
    return store


@pytest.fixture
def job(api_on_both: Api, store: ArtifactStore, tmp_path: Path) -> Job:
    """A running job with three stored checkpoints, of which the second is the best."""
    factory = api_on_both.factory
    factory.registered()
    job = factory.running("pretrain", slots=1)
    for step, loss in ((10, 3.0), (20, 1.0), (30, 2.0)):
        folder = tmp_path / f"made-{step}"
        (folder / "state").mkdir(parents=True)
        (folder / "state" / "weights.pt").write_text(f"weights of step {step}")
        key = f"checkpoints/{job.id}/{step}"
        manifest = store.put(folder, key)
        write(factory.database, add_checkpoint, job.id, 1, step, key, manifest, {"validation_loss": loss}, factory.database.now())
    return job


def rows(api: Api, job: Job) -> dict[int, Document]:
    return {row["step"]: row for row in api.client.get(f"/v1/jobs/{job.id}/checkpoints").json()["data"]}


def spoil(store: ArtifactStore, job: Job, step: int) -> None:
    path = Path(store.url) / f"checkpoints/{job.id}/{step}/state/weights.pt"
    path.unlink()  # the stored file is a link to what was put
    path.write_text("something else")


class TestLook:
    def test_how_it_stands_among_the_others(self, api_on_both: Api, job: Job) -> None:
        found = rows(api_on_both, job)
        assert {step: (row["is_newest"], row["is_best"], row["kept_for"]) for step, row in found.items()} == {
            30: (True, False, ["newest"]),
            20: (False, True, ["recent", "best"]),
            10: (False, False, []),
        }
        row = found[20]
        assert api_on_both.client.get(f"/v1/checkpoints/{row['id']}").json() == row
        assert (row["object"], row["job_id"], row["attempt"], row["metrics"]) == (
            "checkpoint",
            job.id,
            1,
            {"validation_loss": 1.0},
        )
        assert (row["bytes"], row["verified_at"], row["damage"]) == (len("weights of step 20"), None, None)

    def test_only_ones_own_and_what_is_there(self, api_on_both: Api, job: Job, check_problem: Any) -> None:
        other = api_on_both.with_key(api_on_both.key(project="other"))
        own = rows(api_on_both, job)[30]["id"]
        for client, id_ in ((other, own), (api_on_both.client, "ckpt_none")):
            for call in (client.get, client.delete, lambda path, by=client: by.post(f"{path}/verify")):
                check_problem(call(f"/v1/checkpoints/{id_}"), 404, "not_found", "checkpoint_id")
        reader = api_on_both.with_key(api_on_both.key("read"))
        check_problem(reader.delete(f"/v1/checkpoints/{own}"), 403, "missing_scope")


class TestVerify:
    def test_whole_then_damaged_then_mended(self, api_on_both: Api, store: ArtifactStore, job: Job) -> None:
        id_ = rows(api_on_both, job)[20]["id"]
        verdict = api_on_both.client.post(f"/v1/checkpoints/{id_}/verify").json()
        assert (verdict["is_whole"], verdict["damaged"]) == (True, [])
        verified_at = verdict["checkpoint"]["verified_at"]
        assert verified_at is not None
        spoil(store, job, 20)
        verdict = api_on_both.client.post(f"/v1/checkpoints/{id_}/verify").json()
        (damaged,) = verdict["damaged"]
        assert (verdict["is_whole"], damaged["file"]) == (False, "state/weights.pt")
        assert damaged["expected"] != damaged["actual"]
        row = rows(api_on_both, job)[20]
        assert row["verified_at"] == verified_at, "when it was last whole"
        assert damaged["actual"] in row["damage"]
        assert (row["is_best"], rows(api_on_both, job)[30]["is_best"]) == (False, True)


class TestDelete:
    def test_nobody_reads_it_and_its_files_go(self, api_on_both: Api, store: ArtifactStore, job: Job) -> None:
        id_ = rows(api_on_both, job)[10]["id"]
        assert api_on_both.client.delete(f"/v1/checkpoints/{id_}").status_code == 204
        assert list(rows(api_on_both, job)) == [30, 20]
        assert api_on_both.client.delete(f"/v1/checkpoints/{id_}").status_code == 404
        sweep_checkpoints(api_on_both.factory.database, store, 14.0)
        assert sorted(path.name for path in (Path(store.url) / "checkpoints" / job.id).iterdir()) == ["20", "30"]
        events = api_on_both.client.get(f"/v1/jobs/{job.id}/events").json()["data"]
        assert [event["data"]["steps"] for event in events if event["type"] == "checkpoints_removed"] == [[10]]

    def test_not_the_only_good_one(self, api_on_both: Api, store: ArtifactStore, job: Job, check_problem: Any) -> None:
        ids = {step: row["id"] for step, row in rows(api_on_both, job).items()}
        spoil(store, job, 30)
        api_on_both.client.post(f"/v1/checkpoints/{ids[30]}/verify")
        assert api_on_both.client.delete(f"/v1/checkpoints/{ids[10]}").status_code == 204
        problem = check_problem(
            api_on_both.client.delete(f"/v1/checkpoints/{ids[20]}"), 409, "checkpoint_in_use", "checkpoint_id"
        )
        assert "the only good one" in problem["detail"]


class TestBeginAt:
    def submit(self, api: Api, checkpoint_id: str, **spec: Any) -> Any:
        return api.client.post("/v1/jobs", json={"spec": spec_of("pretrain", **spec), "resume_from": checkpoint_id})

    def test_a_job_says_so_and_is_protected(self, api_on_both: Api, job: Job, check_problem: Any) -> None:
        id_ = rows(api_on_both, job)[10]["id"]
        response = self.submit(api_on_both, id_, optimizer={"learning_rate": 0.01}, deepspeed={"zero_stage": 2})
        assert response.status_code == 202
        made = response.json()
        assert (made["resume_from"], made["resume_from_job"], made["resume_from_step"]) == (id_, job.id, 10)
        row = rows(api_on_both, job)[10]
        assert (row["kept_for"], row["needed_by"]) == (["needed"], [made["id"]])
        problem = check_problem(api_on_both.client.delete(f"/v1/checkpoints/{id_}"), 409, "checkpoint_in_use")
        assert made["id"] in problem["detail"]
        api_on_both.client.post(f"/v1/jobs/{made['id']}/cancel")
        assert api_on_both.client.delete(f"/v1/checkpoints/{id_}").status_code == 204

    def test_refusals_name_the_field(self, api_on_both: Api, job: Job, check_problem: Any) -> None:
        id_ = rows(api_on_both, job)[10]["id"]
        check_problem(self.submit(api_on_both, id_, steps=10), 422, "invalid_request", "spec.steps")
        check_problem(
            self.submit(api_on_both, id_, architecture={"layers": 2}), 422, "invalid_request", "spec.architecture.layers"
        )
        check_problem(self.submit(api_on_both, "ckpt_none"), 422, "unknown_reference", "resume_from")

    def test_a_plan_counts_the_steps_left(self, api_on_both: Api, job: Job) -> None:
        id_ = rows(api_on_both, job)[30]["id"]
        body = {"spec": spec_of("pretrain", steps=40)}
        whole, rest = (
            api_on_both.client.post("/v1/jobs/plan", json={**body, **more}).json() for more in ({}, {"resume_from": id_})
        )
        assert rest["tokens"]["total"] * 4 == whole["tokens"]["total"]

    def test_not_the_trials_of_a_sweep(self, api_on_both: Api, job: Job, check_problem: Any) -> None:
        sweep = {
            "name": "search",
            "job": {"spec": spec_of("pretrain"), "resume_from": rows(api_on_both, job)[10]["id"]},
            "parameters": {"spec.seed": {"type": "int", "low": 1, "high": 9}},
        }
        check_problem(api_on_both.client.post("/v1/sweeps", json=sweep), 422, "invalid_request", "job")

    def test_the_dashboard_shows_both(self, api_on_both: Api, job: Job) -> None:
        write(api_on_both.factory.database, finish, job.id, 1, Outcome.BAD_DATA)
        made = self.submit(api_on_both, rows(api_on_both, job)[10]["id"]).json()
        key = api_on_both.key()
        browser = api_on_both.with_key("")
        browser.post("/login", data={"key": key}, headers={"origin": "http://testserver"})
        assert "recent, best" in browser.get(f"/jobs/{job.id}").text
        assert f"/jobs/{job.id}#{made['resume_from']}" in browser.get(f"/jobs/{made['id']}").text

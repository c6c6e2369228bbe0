"""Sweeps over HTTP."""

from typing import Any

import pytest
from running_api import Api
from sqlmodel import select
from sweep_runs import BODY, RATE, conduct_to_its_end, run_jobs

from modelyard.domain.jobs.tables import Job
from modelyard.domain.sweeps.bodies import EXAMPLE
from modelyard.domain.sweeps.tables import Sweep
from modelyard.scheduler.sweeps import conduct_sweeps


@pytest.fixture(autouse=True)
def corpus(api: Api) -> None:
    """The dataset the sweeps train on."""
    api.factory.registered()


def create(api: Api, **changes: Any) -> dict[str, Any]:
    """Make a sweep."""
    response = api.client.post("/v1/sweeps", json={**BODY, **changes})
    assert response.status_code == 202, response.text
    assert response.headers["Location"] == f"/v1/sweeps/{response.json()['id']}"
    return dict(response.json())


RANGE = {"type": "float", "low": 1e-5, "high": 1.0}
CHOICES = {"type": "categorical", "choices": ["corpus", "none"]}
MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    ({"name": "Bad Name"}, "invalid_request", "name"),
    ({"trials": 0}, "invalid_request", "trials"),
    ({"parameters": {}}, "invalid_request", "parameters"),
    ({"parameters": {RATE: {**RANGE, "low": 2.0}}}, "invalid_request", f"parameters.{RATE}.float"),
    ({"parameters": {RATE: {**RANGE, "low": -1.0}}}, "invalid_request", f"parameters.{RATE}"),
    ({"parameters": {"spec.optimizer.speed": RANGE}}, "invalid_request", "parameters.spec.optimizer.speed"),
    ({"parameters": {RATE: RANGE}, "sampler": "grid"}, "invalid_request", f"parameters.{RATE}"),
    ({"pruning": {"min_steps": 40}}, "invalid_request", "pruning.min_steps"),
    ({"max_gpu_hours": 0}, "invalid_request", "max_gpu_hours"),
    ({"job": {"spec": {**BODY["job"]["spec"], "steps": 0}}}, "invalid_request", "job.spec.steps"),
    ({"job": {"spec": {**BODY["job"]["spec"], "dataset": "none"}}}, "unknown_reference", "job.spec.dataset"),
    ({"parameters": {"spec.dataset": CHOICES}}, "unknown_reference", "parameters.spec.dataset"),
    ({"job": {**BODY["job"], "resources": {"nodes": 99}}}, "invalid_request", "job.resources.nodes"),
]


class TestCreate:
    def test_shows_what_it_will_do(self, api: Api) -> None:
        body = create(api)
        assert (body["state"], body["rungs"], body["items"], body["best"]) == ("running", [10, 20], [], None)
        assert api.client.get("/v1/sweeps/search").json() == body
        assert api.factory.find(select(Job)) == [], "trying the job leaves nothing behind"

    @pytest.mark.parametrize(("changes", "code", "field"), MISTAKES)
    def test_mistakes_are_named_and_make_nothing(
        self, api: Api, check_problem: Any, changes: dict[str, Any], code: str, field: str
    ) -> None:
        check_problem(api.client.post("/v1/sweeps", json={**BODY, **changes}), 422, code, field)
        assert api.factory.find(select(Sweep)) == api.factory.find(select(Job)) == []

    def test_takes_the_example_of_the_documentation(self, api: Api) -> None:
        api.factory.registered(name="shakespeare")
        assert create(api, **EXAMPLE)["rungs"] == [50, 100, 200]

    def test_once_per_key(self, api: Api) -> None:
        answers = [api.client.post("/v1/sweeps", json=BODY, headers={"Idempotency-Key": "one"}).json() for _ in range(2)]
        assert answers[0] == answers[1]

    def test_a_grid_has_no_more_trials_than_points(self, api: Api) -> None:
        grid = {RATE: {"type": "categorical", "choices": [0.1, 0.01]}, "spec.seed": {"type": "int", "low": 1, "high": 3}}
        assert create(api, parameters=grid, sampler="grid", trials=99)["trials"] == 6


class TestShow:
    def test_trials_with_their_values_and_the_best(self, api: Api) -> None:
        made = create(api)
        conduct_to_its_end(api.factory, api.factory.get(Sweep, made["id"]))
        body = api.client.get(f"/v1/sweeps/{made['id']}").json()
        assert (body["state"], body["trial_counts"]) == ("succeeded", {"finished": 1, "stopped": 3})
        assert [item["number"] for item in body["items"]] == [0, 1, 2, 3]
        best = body["items"][body["best"]]
        assert (best["state"], best["step"], list(best["results"])) == ("finished", 40, ["10", "20", "40"])
        assert best["value"] == best["results"]["40"]
        assert 0 < best["gpu_hours"] < body["gpu_hours"] < 0.1
        assert api.client.get(f"/v1/jobs/{best['job_id']}").json()["outputs"]["model"]["id"]
        assert body["promoted"]["id"] == api.client.get("/v1/models/best@1").json()["id"]

    def test_lists_newest_first_in_pages(self, api: Api) -> None:
        ids = [create(api, name=name)["id"] for name in ("a", "b", "c")]
        page = api.client.get("/v1/sweeps", params={"limit": 2}).json()
        assert ([row["id"] for row in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)
        rest = api.client.get("/v1/sweeps", params={"limit": 2, "after": page["next"]}).json()
        assert ([row["id"] for row in rest["data"]], rest["has_more"]) == ([ids[0]], False)

    def test_of_other_projects_nothing_is_seen(self, api: Api, check_problem: Any) -> None:
        made = create(api)
        other = api.with_key(api.key(project="other"))
        check_problem(other.get(f"/v1/sweeps/{made['id']}"), 404, "not_found", "sweep_id")
        assert other.get("/v1/sweeps").json()["data"] == []


class TestWishes:
    def test_pause_resume_and_cancel(self, api: Api, check_problem: Any) -> None:
        path = f"/v1/sweeps/{create(api)['id']}"
        conduct_sweeps(api.factory.database)
        assert api.client.post(f"{path}/pause").json()["state"] == "paused"
        assert {item["job_state"] for item in api.client.get(path).json()["items"]} == {"paused"}
        assert api.client.post(f"{path}/resume").json()["state"] == "running"
        check_problem(api.client.post(f"{path}/resume"), 409, "conflict", "sweep_id")
        assert run_jobs(api.factory) == 2
        assert api.client.post(f"{path}/cancel").json()["state"] == "cancelling"
        conduct_sweeps(api.factory.database)
        assert api.client.get(path).json()["state"] == "cancelled"
        check_problem(api.client.post(f"{path}/cancel"), 409, "conflict", "sweep_id")

    def test_readers_only_look(self, api: Api, check_problem: Any) -> None:
        made = create(api)
        reader = api.with_key(api.key("read"))
        assert reader.get(f"/v1/sweeps/{made['id']}").status_code == 200
        check_problem(reader.post(f"/v1/sweeps/{made['id']}/cancel"), 403, "missing_scope", "Authorization")

"""Projects over HTTP and as the command shows them: shares, quotas, what is used, and what happens beyond."""

import json
from typing import Any

import pytest
from factories import spec_of
from running_api import Api
from typer.testing import CliRunner

from modelyard.cli.client import Client
from modelyard.cli.main import app as command


class TestManage:
    def test_made_shown_changed(self, api_on_both: Api) -> None:
        client = api_on_both.client
        made = client.post("/v1/projects", json={"name": "apollo", "share": 2, "max_gpus": 4})
        assert made.status_code == 201
        assert made.headers["location"] == f"/v1/projects/{made.json()['id']}"
        unlimited = {"max_queued_jobs": None, "max_gpu_hours_per_month": None}
        assert {**made.json(), "share": 2.0, "max_gpus": 4, **unlimited} == made.json()
        changed = client.patch("/v1/projects/apollo", json={"max_gpus": None, "max_queued_jobs": 7}).json()
        assert (changed["share"], changed["max_gpus"], changed["max_queued_jobs"]) == (2.0, None, 7)
        assert client.get(f"/v1/projects/{made.json()['id']}").json() == changed

    def test_listed_page_by_page_with_what_they_use(self, api_on_both: Api) -> None:
        api_on_both.factory.running(project="a")
        api_on_both.factory.job(project="a")
        first = api_on_both.client.get("/v1/projects", params={"limit": 1}).json()
        assert (first["has_more"], [each["name"] for each in first["data"]]) == (True, ["default"])
        (project,) = api_on_both.client.get("/v1/projects", params={"after": first["next"]}).json()["data"]
        usage = project["usage"]
        assert (project["name"], usage["gpus_in_use"], usage["running_jobs"], usage["waiting_jobs"]) == ("a", 1, 1, 1)
        assert 0 < usage["gpu_hours_this_month"] < 0.1
        assert usage["recent_gpu_hours"] == pytest.approx(usage["gpu_hours_this_month"], abs=0.01)

    def test_the_same_request_makes_one(self, api: Api, check_problem: Any) -> None:
        once = {"Idempotency-Key": "first"}
        answers = [api.client.post("/v1/projects", json={"name": "apollo"}, headers=once) for _ in range(2)]
        assert answers[0].json()["id"] == answers[1].json()["id"]
        check_problem(api.client.post("/v1/projects", json={"name": "apollo"}), 409, "project_exists", "name")

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "name"),
            ({"name": ""}, "name"),
            ({"name": "a/b"}, "name"),
            ({"name": "all"}, "name"),
            ({"name": "x" * 101}, "name"),
            ({"name": "x", "share": 0}, "share"),
            ({"name": "x", "share": -1}, "share"),
            ({"name": "x", "share": None}, "share"),
            ({"name": "x", "max_gpus": -1}, "max_gpus"),
            ({"name": "x", "max_gpus": 1.5}, "max_gpus"),
            ({"name": "x", "max_gpus": 2**40}, "max_gpus"),
            ({"name": "x", "max_queued_jobs": -1}, "max_queued_jobs"),
            ({"name": "x", "max_gpu_hours_per_month": -0.1}, "max_gpu_hours_per_month"),
            ({"name": "x", "budget": 1}, "budget"),
        ],
    )
    def test_impossible_ones(self, api: Api, check_problem: Any, body: dict[str, Any], field: str) -> None:
        check_problem(api.client.post("/v1/projects", json=body), 422, "invalid_request", field)
        if "name" in body and field != "name":
            del body["name"]
            check_problem(api.client.patch("/v1/projects/default", json=body), 422, "invalid_request", field)

    def test_unknown_ones(self, api: Api, check_problem: Any) -> None:
        check_problem(api.client.get("/v1/projects/nobody"), 404, "not_found", "project")
        check_problem(api.client.patch("/v1/projects/nobody", json={"max_gpus": 1}), 404, "not_found", "project")

    def test_only_for_admins(self, api: Api, check_problem: Any) -> None:
        client = api.with_key(api.key("read", "write"))
        for method, path in (("GET", ""), ("POST", ""), ("GET", "/default"), ("PATCH", "/default")):
            check_problem(client.request(method, f"/v1/projects{path}", json={"name": "x"}), 403, "missing_scope")


class TestKeys:
    def test_a_key_of_another_project(self, api: Api) -> None:
        project = api.client.post("/v1/projects", json={"name": "apollo"}).json()
        for reference in ("apollo", project["id"]):
            made = api.client.post("/v1/keys", json={"name": "nightly", "project": reference}).json()
            assert made["project_id"] == project["id"]
        theirs = api.with_key(made["key"])
        job = theirs.post("/v1/jobs", json={"spec": spec_of("import")}).json()
        assert api.client.get(f"/v1/jobs/{job['id']}").status_code == 404
        assert api.client.get("/v1/projects/apollo").json()["usage"]["waiting_jobs"] == 1

    def test_an_unknown_project(self, api: Api, check_problem: Any) -> None:
        body = {"name": "nightly", "project": "nobody"}
        check_problem(api.client.post("/v1/keys", json=body), 422, "unknown_reference", "project")


class TestQuotas:
    def test_what_may_not_wait_is_refused_and_leaves_nothing(self, api_on_both: Api, check_problem: Any) -> None:
        api, job = api_on_both, {"spec": spec_of("import")}
        api.client.patch("/v1/projects/default", json={"max_queued_jobs": 2})
        assert [api.client.post("/v1/jobs", json=job).status_code for _ in range(2)] == [202, 202]
        problem = check_problem(api.client.post("/v1/jobs", json=job), 429, "quota_exceeded", "max_queued_jobs")
        assert "has 2 jobs waiting" in problem["detail"]
        steps = {"a": job, "b": {**job, "depends_on": ["a"]}}
        pipeline = api.client.post("/v1/pipelines", json={"name": "two", "jobs": steps})
        check_problem(pipeline, 429, "quota_exceeded")
        assert len(api.client.get("/v1/jobs").json()["data"]) == 2

    def test_a_held_job_explains_itself(self, api: Api) -> None:
        api.client.patch("/v1/projects/default", json={"max_gpus": 0})
        job = api.create()
        assert (job["state"], job["reason"]) == ("held", "quota")
        explanation = api.client.get(f"/v1/jobs/{job['id']}/explain").json()
        assert "max_gpus allows project default no more than 0" in explanation["summary"]
        assert "modelyard projects set" in explanation["fix"]

    def test_a_start_time_explains_itself(self, api: Api) -> None:
        body = {"spec": spec_of("import"), "start_at": "2999-01-31T06:00:00+01:00"}
        job = api.client.post("/v1/jobs", json=body).json()
        explanation = api.client.get(f"/v1/jobs/{job['id']}/explain").json()
        assert (job["state"], explanation["reason"]) == ("held", "start_time")
        assert "2999-01-31T05:00:00+00:00" in explanation["summary"]
        assert "start_at" in explanation["fix"]


class TestCommand:
    @pytest.fixture
    def run(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Run `modelyard projects …` against the application."""
        connected = Client("http://test", "unused")
        connected._http = api.client  # type: ignore[assignment]
        monkeypatch.setattr("modelyard.cli.client.connect", lambda data_dir: connected)
        monkeypatch.setattr(connected, "close", lambda: None)
        return lambda *arguments: CliRunner().invoke(command, ["projects", *arguments], catch_exceptions=True)

    def test_made_changed_listed(self, run: Any) -> None:
        made = run("create", "apollo", "--share", "2", "--max-gpus", "4", "--json")
        assert json.loads(made.stdout)["max_gpus"] == 4
        changed = run("set", "apollo", "--max-gpus", "none", "--max-gpu-hours-per-month", "1.5")
        assert changed.stdout.strip() == "apollo: share 2, max_gpus none, max_queued_jobs none, max_gpu_hours_per_month 1.5"
        shown = run("list").stdout
        assert "0 of 1.5" in shown
        assert [each["name"] for each in json.loads(run("list", "--json").stdout)["data"]] == ["default", "apollo"]

    @pytest.mark.parametrize(
        ("arguments", "exit_code", "says"),
        [
            (("set", "default"), 2, "Nothing to change"),
            (("set", "default", "--max-gpus", "many"), 2, "--max-gpus 'many' is no number"),
            (("set", "default", "--max-gpus", "-1"), 2, "max_gpus"),
            (("set", "nobody", "--share", "2"), 3, "no project 'nobody'"),
            (("create", "default"), 5, "already"),
        ],
    )
    def test_mistakes(self, run: Any, arguments: tuple[str, ...], exit_code: int, says: str) -> None:
        done = run(*arguments)
        assert getattr(done.exception, "exit_code", None) == exit_code
        assert says in str(done.exception)

"""Schedules over HTTP."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from factories import spec_of
from running_api import Api
from sqlmodel import select

from modelyard.api.schedules.schemas import EXAMPLE
from modelyard.domain.jobs.tables import Job

NIGHTLY = {"name": "nightly", "cron": "30 2 * * *", "timezone": "Europe/Berlin", "job": {"spec": spec_of("import")}}


def create(api: Api, **changes: Any) -> dict[str, Any]:
    """Make a schedule."""
    response = api.client.post("/v1/schedules", json={**NIGHTLY, **changes})
    assert response.status_code == 201, response.text
    return dict(response.json())


class TestCreate:
    def test_shows_what_it_keeps_and_its_next_times(self, api: Api) -> None:
        body = create(api)
        assert body["job"] == NIGHTLY["job"]
        assert (body["pipeline"], body["paused"], body["overlap"]) == (None, False, False)
        times = [datetime.fromisoformat(each) for each in body["next"]]
        assert len(times) == 5
        assert datetime.now(UTC) < times[0] < datetime.now(UTC) + timedelta(days=1, hours=1)
        assert all(timedelta(hours=22) < later - time < timedelta(hours=26) for time, later in pairwise(times))
        assert api.client.get("/v1/schedules/nightly").json()["id"] == body["id"]
        assert api.factory.find(select(Job)) == []

    def test_takes_the_example_of_the_documentation(self, api: Api) -> None:
        assert create(api, **EXAMPLE)["name"] == EXAMPLE["name"]

    def test_mistakes_are_named(self, api: Api, check_problem: Any) -> None:
        for changes, code, field in [
            ({"job": None}, "invalid_request", "body"),
            ({"pipeline": {"name": "x", "jobs": {"a": {"spec": spec_of("import")}}}}, "invalid_request", "body"),
            ({"cron": "never"}, "invalid_request", "cron"),
            ({"timezone": "Mars/Olympus"}, "invalid_request", "timezone"),
            ({"name": "Bad Name"}, "invalid_request", "name"),
            ({"job": {"spec": spec_of("pretrain", steps=0)}}, "invalid_request", "job.spec.steps"),
            ({"job": {"spec": spec_of("pretrain")}}, "unknown_reference", "job.spec.dataset"),
        ]:
            check_problem(api.client.post("/v1/schedules", json={**NIGHTLY, **changes}), 422, code, field)

    def test_once_per_key_and_name(self, api: Api, check_problem: Any) -> None:
        answers = [api.client.post("/v1/schedules", json=NIGHTLY, headers={"Idempotency-Key": "one"}).json() for _ in range(2)]
        assert answers[0] == answers[1]
        check_problem(api.client.post("/v1/schedules", json=NIGHTLY), 409, "schedule_exists", "name")


class TestChange:
    def test_pauses_and_resumes(self, api: Api) -> None:
        create(api)
        paused = api.client.patch("/v1/schedules/nightly", json={"paused": True}).json()
        assert (paused["paused"], paused["next"], paused["cron"]) == (True, [], NIGHTLY["cron"])
        assert len(api.client.patch("/v1/schedules/nightly", json={"paused": False}).json()["next"]) == 5

    def test_a_pipeline_in_place_of_the_job(self, api: Api, check_problem: Any) -> None:
        create(api)
        pipeline = {"name": "x", "jobs": {"a": {"spec": spec_of("import")}}}
        changed = api.client.patch("/v1/schedules/nightly", json={"pipeline": pipeline, "cron": "0 * * * *"}).json()
        assert (changed["job"], changed["pipeline"], changed["cron"]) == (None, pipeline, "0 * * * *")
        wrong = {"job": {"spec": spec_of("pretrain")}}
        check_problem(api.client.patch("/v1/schedules/nightly", json=wrong), 422, "unknown_reference", "job.spec.dataset")
        assert api.client.get("/v1/schedules/nightly").json()["pipeline"] == pipeline

    def test_a_name_that_is_taken(self, api: Api, check_problem: Any) -> None:
        create(api)
        other = create(api, name="other")
        path = f"/v1/schedules/{other['id']}"
        check_problem(api.client.patch(path, json={"name": "nightly"}), 409, "schedule_exists", "name")
        assert api.client.patch(path, json={"name": "third"}).json()["name"] == "third"


class TestRun:
    def test_at_once_and_in_the_list(self, api_on_both: Api, check_problem: Any) -> None:
        create(api_on_both, paused=True)
        path = "/v1/schedules/nightly"
        answers = [api_on_both.client.post(f"{path}/run", headers={"Idempotency-Key": "one"}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 202]
        run = answers[0].json()
        assert answers[1].json() == run
        assert answers[0].headers["location"] == f"/v1/jobs/{run['job_id']}"
        check_problem(api_on_both.client.post(f"{path}/run"), 409, "run_still_going", "schedule_id")
        api_on_both.client.post(f"/v1/jobs/{run['job_id']}/cancel")
        second = api_on_both.client.post(f"{path}/run").json()
        page = api_on_both.client.get(f"{path}/runs?limit=1").json()
        assert ([each["job_id"] for each in page["data"]], page["has_more"]) == ([second["job_id"]], True)
        rest = api_on_both.client.get(f"{path}/runs", params={"after": page["next"]}).json()
        assert ([each["job_id"] for each in rest["data"]], rest["has_more"]) == ([run["job_id"]], False)


class TestDelete:
    def test_what_it_submitted_stays(self, api: Api, check_problem: Any) -> None:
        create(api)
        run = api.client.post("/v1/schedules/nightly/run").json()
        assert api.client.delete("/v1/schedules/nightly").status_code == 204
        check_problem(api.client.get("/v1/schedules/nightly"), 404, "not_found", "schedule_id")
        assert api.client.get(f"/v1/jobs/{run['job_id']}").status_code == 200


class TestList:
    def test_pages_of_the_project(self, api: Api) -> None:
        ids = [create(api, name=f"s{number}")["id"] for number in range(3)]
        page = api.client.get("/v1/schedules?limit=2").json()
        assert [each["id"] for each in page["data"]] == ids[:0:-1]
        assert [each["id"] for each in api.client.get(f"/v1/schedules?after={page['next']}").json()["data"]] == ids[:1]
        theirs = api.with_key(api.key(project="theirs"))
        assert theirs.get("/v1/schedules").json()["data"] == []
        assert theirs.get("/v1/schedules/s1").status_code == 404

"""Pipelines over HTTP."""

from typing import Any

from factories import spec_of
from running_api import Api
from sqlmodel import select

from modelyard.domain.jobs.tables import Job
from modelyard.domain.pipelines.tables import Pipeline

CHAIN = {
    "corpus": {"spec": spec_of("prepare")},
    "model": {"spec": spec_of("pretrain", dataset="${corpus}"), "resources": {"slots": 2}, "depends_on": ["corpus"]},
}


def create(api: Api, jobs: dict[str, Any], **headers: str) -> Any:
    """Submit a pipeline."""
    return api.client.post("/v1/pipelines", json={"name": "test", "jobs": jobs}, headers=headers)


class TestCreate:
    def test_shows_all_jobs(self, api_on_both: Api) -> None:
        response = create(api_on_both, CHAIN)
        assert response.status_code == 202, response.text
        body = response.json()
        assert {job["step"]: (job["state"], job["depends_on"]) for job in body["jobs"]} == {
            "corpus": ("queued", []),
            "model": ("held", ["corpus"]),
        }
        assert {job["pipeline_id"] for job in body["jobs"]} == {body["id"]}
        assert api_on_both.client.get(response.headers["location"]).json() == body

    def test_mistakes_are_named_and_nothing_is_made(self, api: Api, check_problem: Any) -> None:
        circle = {"a": {"spec": spec_of("import"), "depends_on": ["b"]}, "b": {"spec": spec_of("import"), "depends_on": ["a"]}}
        for jobs, code, field in [
            ({}, "invalid_request", "jobs"),
            ({"Bad Name": CHAIN["corpus"]}, "invalid_request", "jobs.Bad Name.[key]"),
            ({"a": {"spec": spec_of("import", stepz=1)}}, "invalid_request", "jobs.a.spec.stepz"),
            (circle, "invalid_request", "jobs"),
            ({**CHAIN, "x": {"spec": spec_of("deploy", model="${corpus}")}}, "unknown_reference", "jobs.x.spec.model"),
            ({**CHAIN, "x": {"spec": spec_of("deploy", model="nothing")}}, "unknown_reference", "jobs.x.spec.model"),
            ({**CHAIN, "x": {"spec": spec_of("deploy", model="${nothing}")}}, "unknown_reference", "jobs.x"),
        ]:
            check_problem(create(api, jobs), 422, code, field)
        assert api.factory.find(select(Job)) == []
        assert api.factory.find(select(Pipeline)) == []

    def test_once_per_key(self, api: Api) -> None:
        ids = {create(api, CHAIN, **{"Idempotency-Key": "one"}).json()["id"] for _ in range(2)}
        assert len(ids) == 1
        assert len(api.factory.find(select(Job))) == 2


class TestList:
    def test_pages(self, api: Api) -> None:
        ids = [create(api, CHAIN).json()["id"] for _ in range(3)]
        page = api.client.get("/v1/pipelines?limit=2").json()
        assert [each["id"] for each in page["data"]] == ids[:0:-1]
        assert [each["id"] for each in api.client.get(f"/v1/pipelines?after={page['next']}").json()["data"]] == ids[:1]


class TestCancel:
    def test_every_job_that_is_not_finished(self, api_on_both: Api, check_problem: Any) -> None:
        pipeline = create(api_on_both, CHAIN).json()
        api_on_both.factory.claimed(api_on_both.factory.get(Job, pipeline["jobs"][0]["id"]))
        path = f"/v1/pipelines/{pipeline['id']}"
        cancelled = api_on_both.client.post(f"{path}/cancel")
        assert cancelled.status_code == 202
        assert {job["step"]: job["state"] for job in cancelled.json()["jobs"]} == {"corpus": "cancelling", "model": "cancelled"}
        assert api_on_both.client.post(f"{path}/cancel").status_code == 202
        check_problem(api_on_both.client.post("/v1/pipelines/pipe_1/cancel"), 404, "not_found", "pipeline_id")


class TestRetry:
    def test_only_what_did_not_succeed(self, api_on_both: Api, check_problem: Any) -> None:
        pipeline = create(api_on_both, CHAIN).json()
        path = f"/v1/pipelines/{pipeline['id']}"
        check_problem(api_on_both.client.post(f"{path}/retry"), 409, "nothing_to_retry", "pipeline_id")
        api_on_both.client.post(f"{path}/cancel")
        answers = [api_on_both.client.post(f"{path}/retry", headers={"Idempotency-Key": "one"}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 202]
        shown = answers[1].json()
        assert {job["step"]: job["state"] for job in shown["jobs"]} == {"corpus": "queued", "model": "held"}
        assert [job["id"] for job in shown["replaced"]] == [job["id"] for job in pipeline["jobs"]]
        check_problem(api_on_both.client.post("/v1/pipelines/pipe_1/retry"), 404, "not_found", "pipeline_id")

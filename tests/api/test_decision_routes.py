"""What people decide about jobs, over HTTP: approve, reject, retry."""

from typing import Any

from factories import spec_of
from running_api import Api
from sqlmodel import select

from modelyard.domain.jobs.tables import Job


def held(api: Api) -> str:
    """The path of a job that waits for approval."""
    body = {"spec": spec_of("import"), "needs_approval": True}
    return f"/v1/jobs/{api.client.post('/v1/jobs', json=body).json()['id']}"


class TestApprove:
    def test_lets_it_go_on(self, api_on_both: Api, check_problem: Any) -> None:
        path = held(api_on_both)
        assert f"`modelyard approve {path.rpartition('/')[2]}`" in api_on_both.client.get(f"{path}/explain").json()["fix"]
        approved = api_on_both.client.post(f"{path}/approve", json={"comment": "fine"})
        assert approved.status_code == 202, approved.text
        body = approved.json()
        assert (body["state"], body["reason"], body["needs_approval"]) == ("queued", None, True)
        assert body["approved_by"].startswith("key_")
        check_problem(api_on_both.client.post(f"{path}/approve"), 409, "not_waiting_for_approval", "job_id")

    def test_needs_no_body_but_the_scope(self, api: Api, check_problem: Any) -> None:
        path = held(api)
        check_problem(api.with_key(api.key("read")).post(f"{path}/approve"), 403, "missing_scope")
        check_problem(api.with_key(api.key(project="theirs")).post(f"{path}/approve"), 404, "not_found")
        assert api.client.post(f"{path}/approve").json()["state"] == "queued"


class TestReject:
    def test_wants_a_reason(self, api: Api, check_problem: Any) -> None:
        path = held(api)
        check_problem(api.client.post(f"{path}/reject", json={}), 422, "invalid_request", "reason")
        body = api.client.post(f"{path}/reject", json={"reason": "too dear"}).json()
        assert (body["state"], body["error"]["reason"]) == ("cancelled", "rejected")
        assert body["message"].endswith("too dear")
        check_problem(api.client.post(f"{path}/reject", json={"reason": "x"}), 409, "not_waiting_for_approval")


class TestRetry:
    def test_makes_one_new_job(self, api_on_both: Api, check_problem: Any) -> None:
        old = api_on_both.create()
        path = f"/v1/jobs/{old['id']}"
        check_problem(api_on_both.client.post(f"{path}/retry"), 409, "not_retriable", "job_id")
        api_on_both.client.post(f"{path}/cancel")
        answers = [
            api_on_both.client.post(f"{path}/retry", json={"priority": 90}, headers={"Idempotency-Key": "one"}) for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [202, 202]
        new = answers[0].json()
        assert answers[1].json()["id"] == new["id"]
        assert (new["state"], new["retry_of"], new["priority"], new["spec"]) == ("queued", old["id"], 90, old["spec"])
        assert answers[0].headers["location"] == f"/v1/jobs/{new['id']}"
        assert len(api_on_both.factory.find(select(Job))) == 2
        check_problem(api_on_both.client.post(f"{path}/retry", json={"steps": 3}), 422, "invalid_request", "steps")

    def test_a_step_is_replaced_in_its_pipeline(self, api_on_both: Api) -> None:
        jobs = {"a": {"spec": spec_of("import")}, "b": {"spec": spec_of("import"), "depends_on": ["a"]}}
        pipeline = api_on_both.client.post("/v1/pipelines", json={"name": "test", "jobs": jobs}).json()
        path = f"/v1/pipelines/{pipeline['id']}"
        api_on_both.client.post(f"{path}/cancel")
        first = pipeline["jobs"][0]["id"]
        new = api_on_both.client.post(f"/v1/jobs/{first}/retry").json()
        shown = api_on_both.client.get(path).json()
        assert [job["id"] for job in shown["replaced"]] == [first]
        assert [(job["id"], job["state"]) for job in shown["jobs"]] == [
            (new["id"], "queued"),
            (pipeline["jobs"][1]["id"], "cancelled"),
        ]

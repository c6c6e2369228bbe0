"""Jobs over HTTP: submit, look, stop."""

import threading
from typing import Any

import pytest
from factories import spec_of, write
from running_api import Api
from sqlmodel import select

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.recording import Batch, add_checkpoint, record
from modelyard.domain.jobs.tables import Job


def jobs(api: Api) -> list[Job]:
    """All jobs there are."""
    return api.factory.find(select(Job))


class TestCreate:
    def test_accepted_though_the_broker_is_away(self, api_on_both: Api) -> None:
        response = api_on_both.client.post("/v1/jobs", json={"spec": spec_of("import"), "name": "nul \0 in it", "priority": 60})
        assert response.status_code == 202
        body = response.json()
        assert response.headers["location"] == f"/v1/jobs/{body['id']}"
        assert (body["state"], body["queue"], body["priority"], body["attempt"]) == ("queued", "prepare", 60, 0)
        assert body["submitted_at"].endswith("Z")
        assert api_on_both.client.get(response.headers["location"]).json() == body

    @pytest.mark.parametrize(
        ("body", "field", "value"),
        [
            ({}, "spec", None),
            ({"spec": {"kind": "dance"}}, "spec", None),
            ({"spec": {"name": "x"}}, "spec", None),
            ({"spec": spec_of("import", stepz=1)}, "spec.stepz", 1),
            ({"spec": spec_of("pretrain", steps="many")}, "spec.steps", "many"),
            ({"spec": spec_of("pretrain", steps=0)}, "spec.steps", 0),
            ({"spec": spec_of("pretrain", optimizer={"learning_rate": -1})}, "spec.optimizer.learning_rate", -1),
            ({"spec": spec_of("import", name="Bad Name")}, "spec.name", "Bad Name"),
            ({"spec": spec_of("import"), "priority": 101}, "priority", 101),
            ({"spec": spec_of("import"), "resources": {"slots": 0}}, "resources.slots", 0),
            ({"spec": spec_of("import"), "resources": {"nodes": 2}}, "resources.nodes", 2),
            ({"spec": spec_of("import"), "color": "red"}, "color", "red"),
        ],
    )
    def test_mistakes_are_named_and_nothing_is_made(
        self, api: Api, check_problem: Any, body: dict[str, Any], field: str, value: object
    ) -> None:
        problem = check_problem(api.client.post("/v1/jobs", json=body), 422, "invalid_request", field)
        (entry,) = [entry for entry in problem["errors"] if entry["field"] == field]
        assert value is None or entry["value"] == value
        assert jobs(api) == []

    def test_an_unknown_kind_is_told_the_known_ones(self, api: Api) -> None:
        detail = api.client.post("/v1/jobs", json={"spec": {"kind": "dance"}}).json()["detail"]
        assert "'pretrain'" in detail

    @pytest.mark.parametrize(
        ("kind", "field"), [("pretrain", "spec.dataset"), ("deploy", "spec.model"), ("monitor", "spec.deployment")]
    )
    def test_unknown_references(self, api_on_both: Api, check_problem: Any, kind: str, field: str) -> None:
        for value in ("nothing", "nothing@1", "${corpus}", "no\0thing", "ds_1@99999999999999999999"):
            changes = {field.removeprefix("spec."): value}
            response = api_on_both.client.post("/v1/jobs", json={"spec": spec_of(kind, **changes)})
            assert check_problem(response, 422, "unknown_reference", field)["errors"][0]["value"] == value
        assert jobs(api_on_both) == []

    @pytest.mark.parametrize(
        "body",
        [
            b"{",
            b"[]",
            b'"text"',
            b"",
            b"null",
            b'{"priority": NaN}',
            b'{"priority": 1e999}',
            b'{"name": "\\ud800"}',
            b"\xff\xfe",
            b"[" * 100_000,
        ],
    )
    def test_bodies_that_are_no_job(self, api: Api, body: bytes) -> None:
        response = api.client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
        assert response.status_code in {400, 422}, response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert jobs(api) == []


class TestIdempotency:
    def test_same_body_same_job(self, api: Api, check_problem: Any) -> None:
        body, headers = {"spec": spec_of("import")}, {"Idempotency-Key": "one"}
        first = api.client.post("/v1/jobs", json=body, headers=headers)
        again = api.client.post("/v1/jobs", json=body, headers=headers)
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
        other = api.client.post("/v1/jobs", json={**body, "priority": 1}, headers=headers)
        check_problem(other, 422, "idempotency_key_reused", "Idempotency-Key")
        assert len(jobs(api)) == 1

    def test_is_the_projects_own(self, api: Api) -> None:
        theirs = api.with_key(api.key(project="theirs"))
        body, headers = {"spec": spec_of("import")}, {"Idempotency-Key": "one"}
        ids = {client.post("/v1/jobs", json=body, headers=headers).json()["id"] for client in (api.client, theirs)}
        assert len(ids) == 2

    def test_what_was_refused_may_be_tried_again(self, api: Api) -> None:
        body, headers = {"spec": spec_of("pretrain")}, {"Idempotency-Key": "one"}
        assert api.client.post("/v1/jobs", json=body, headers=headers).status_code == 422
        api.factory.registered()
        assert api.client.post("/v1/jobs", json=body, headers=headers).status_code == 202

    def test_at_the_same_moment(self, api_on_both: Api) -> None:
        body, headers, ids = {"spec": spec_of("import")}, {"Idempotency-Key": "one"}, []

        def submit() -> None:
            ids.append(api_on_both.client.post("/v1/jobs", json=body, headers=headers).json()["id"])

        threads = [threading.Thread(target=submit) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert (len(ids), len(set(ids)), len(jobs(api_on_both))) == (6, 1, 1)

    @pytest.mark.parametrize("key", ["", "x" * 201])
    def test_impossible_keys(self, api: Api, check_problem: Any, key: str) -> None:
        response = api.client.post("/v1/jobs", json={"spec": spec_of("import")}, headers={"Idempotency-Key": key})
        check_problem(response, 422, "invalid_request")


class TestList:
    def test_pages_newest_first(self, api_on_both: Api) -> None:
        ids = [api_on_both.create()["id"] for _ in range(5)]
        seen, after, pages = [], None, 0
        while True:
            page = api_on_both.client.get("/v1/jobs", params={"limit": 2, **({"after": after} if after else {})}).json()
            seen += [job["id"] for job in page["data"]]
            pages += 1
            if not page["has_more"]:
                assert page["next"] is None
                break
            after = page["next"]
        assert (seen, pages) == (ids[::-1], 3)

    def test_filters(self, api: Api) -> None:
        cancelled, waiting = api.create()["id"], api.create()["id"]
        api.client.post(f"/v1/jobs/{cancelled}/cancel")
        for query, wanted in [
            ("state=cancelled", [cancelled]),
            ("state=queued&state=cancelled", [waiting, cancelled]),
            ("kind=import", [waiting, cancelled]),
            ("kind=deploy", []),
            ("pipeline_id=pipe_1", []),
        ]:
            assert [job["id"] for job in api.client.get(f"/v1/jobs?{query}").json()["data"]] == wanted

    @pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "state=dancing"])
    def test_impossible_queries(self, api: Api, check_problem: Any, query: str) -> None:
        check_problem(api.client.get(f"/v1/jobs?{query}"), 422, "invalid_request")

    @pytest.mark.parametrize("after", ["nothing", "%00", "job_%00", "%F0%9F%98%80"])
    def test_any_cursor_is_harmless(self, api_on_both: Api, after: str) -> None:
        assert api_on_both.client.get(f"/v1/jobs?after={after}").status_code == 200


class TestStop:
    def test_cancel_pause_resume(self, api: Api, check_problem: Any) -> None:
        api.factory.registered()
        job = api.factory.running("pretrain")
        path = f"/v1/jobs/{job.id}"
        check_problem(api.client.post(f"{path}/resume"), 409, "conflict")
        assert api.client.post(f"{path}/pause").json()["state"] == "pausing"
        write(api.factory.database, finish, job.id, 1, Outcome.PAUSED)
        assert api.client.post(f"{path}/resume").json()["state"] == "queued"
        cancelled = api.client.post(f"{path}/cancel")
        assert (cancelled.status_code, cancelled.json()["state"], cancelled.json()["error"]["reason"]) == (
            202,
            "cancelled",
            "cancelled",
        )
        check_problem(api.client.post(f"{path}/cancel"), 409, "conflict", "job_id")

    def test_cancel_without_keeping_the_checkpoints(self, api: Api) -> None:
        api.factory.registered()
        job = api.factory.running("pretrain")
        answer = api.client.post(f"/v1/jobs/{job.id}/cancel?keep_checkpoint=false")
        assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")
        assert api.factory.get(Job, job.id).stop_requested == "discarded"

    def test_a_running_job_that_cannot_continue_cannot_pause(self, api: Api, check_problem: Any) -> None:
        job = api.factory.running("import")
        problem = api.client.post(f"/v1/jobs/{job.id}/pause")
        check_problem(problem, 409, "conflict")
        assert "cancel it instead" in problem.json()["detail"]

    def test_a_job_being_claimed_is_cancelled_all_the_same(self, api_on_both: Api) -> None:
        if api_on_both.factory.database.engine.dialect.name == "sqlite":
            pytest.skip("SQLite has one writer at a time: the cancel simply comes later")
        job, answers = api_on_both.factory.job(), []
        from modelyard.domain.jobs.ownership import claim

        with api_on_both.factory.database.write() as session:
            assert claim(session, job.queue, "w", ["cpu-0"], 30.0) is not None
            canceller = threading.Thread(target=lambda: answers.append(api_on_both.client.post(f"/v1/jobs/{job.id}/cancel")))
            canceller.start()
            canceller.join(timeout=0.5)
            assert answers == []  # it waits for the claim
        canceller.join(timeout=30)
        assert (answers[0].status_code, answers[0].json()["state"]) == (202, "cancelling")


class TestLook:
    def test_what_an_attempt_left(self, api_on_both: Api) -> None:
        job = api_on_both.factory.running()
        events = [
            {"type": "metric", "at": 1.5, "step": step, "values": {"loss": float("nan") if step == 2 else 2.0}}
            for step in (1, 2, 3)
        ]
        batch = Batch([*events, {"type": "figures", "at": 2.0, "values": {"loss": float("inf")}}], 10, [(0, "a\n"), (1, "b\n")])
        write(api_on_both.factory.database, record, job.id, 1, batch, 3.0)
        write(api_on_both.factory.database, add_checkpoint, job.id, 1, 3, "k", {"sha256": "a", "bytes": 2**40}, {}, 4.0)
        get = api_on_both.client.get
        path = f"/v1/jobs/{job.id}"
        metrics = get(f"{path}/metrics?name=loss&limit=2").json()
        assert [(point["step"], point["value"]) for point in metrics["data"]] == [(1, 2.0), (2, None)]
        assert metrics["has_more"]
        assert [point["step"] for point in get(f"{path}/metrics?after={metrics['next']}").json()["data"]] == [3]
        assert get(f"{path}/metrics?name=other").json()["data"] == []
        assert [(log["rank"], log["text"]) for log in get(f"{path}/logs").json()["data"]] == [(0, "a\n"), (1, "b\n")]
        assert get(f"{path}/checkpoints").json()["data"][0]["bytes"] == 2**40
        (attempt,) = get(f"{path}/attempts").json()["data"]
        assert (attempt["seq"], attempt["outcome"], attempt["slots"]) == (1, None, ["cpu-0"])
        assert get(path).json()["figures"] == {"loss": None}
        assert [event["type"] for event in get(f"{path}/events").json()["data"]] == ["state", "state", "figures"]

    def test_events_in_words_newest_first_and_page_by_page(self, api_on_both: Api) -> None:
        job, other = (api_on_both.factory.running() for _ in range(2))
        told: list[dict[str, Any]] = [
            {"type": "phase", "name": "step"},
            {"type": "checkpoint", "step": 3},
            {"type": "phase", "name": "save"},
        ]
        write(api_on_both.factory.database, record, job.id, 1, Batch([{**each, "at": 1.0} for each in told], 10), 3.0)
        write(api_on_both.factory.database, record, other.id, 1, Batch([{"type": "checkpoint", "step": 9, "at": 1.0}], 10), 3.0)

        def ask(query: str) -> dict[str, Any]:
            return dict(api_on_both.client.get(f"/v1/jobs/{job.id}/events?{query}").json())

        def words(page: dict[str, Any]) -> list[str]:
            return [event["what"] for event in page["data"]]

        assert words(ask("")) == ["submitted", "started", "phase", "saved", "phase"]
        assert words(ask("brief=true")) == ["submitted", "started", "saved"]
        first = ask("order=desc&brief=true&limit=2")
        assert (words(first), first["has_more"]) == (["saved", "started"], True)
        assert first["data"][0]["why"] == "a checkpoint at step 3"
        rest = ask(f"order=desc&brief=true&limit=2&after={first['next']}")
        assert (words(rest), rest["has_more"]) == (["submitted"], False)

    def test_explain(self, api: Api) -> None:
        waiting = api.create()["id"]
        explained = api.client.get(f"/v1/jobs/{waiting}/explain").json()
        assert (explained["state"], explained["reason"]) == ("queued", "no_worker")
        assert "modelyard worker --stages prepare" in explained["fix"]

    @pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=0", "limit=5001", "after=99999999999999999999"])
    def test_impossible_queries(self, api: Api, check_problem: Any, query: str) -> None:
        job = api.create()["id"]
        for path in ("events", "metrics", "logs"):
            check_problem(api.client.get(f"/v1/jobs/{job}/{path}?{query}"), 422, "invalid_request")

    def test_far_ahead(self, api_on_both: Api) -> None:
        job = api_on_both.create()["id"]
        assert api_on_both.client.get(f"/v1/jobs/{job}/events?after={2**63 - 1}").json()["data"] == []


class TestStream:
    def test_events_until_the_end(self, api: Api) -> None:
        job = api.create()["id"]
        api.client.post(f"/v1/jobs/{job}/cancel")
        events = self.stream(api, job)
        assert [event["data"]["data"]["state"] for event in events] == ["queued", "cancelled"]
        assert [event["event"] for event in events] == ["state", "state"]
        assert [int(event["id"]) for event in events] == sorted(int(event["id"]) for event in events)
        resumed = self.stream(api, job, **{"Last-Event-ID": events[0]["id"]})
        assert resumed == events[1:]
        assert self.stream(api, job, **{"Last-Event-ID": events[1]["id"]}) == []

    def test_needs_to_be_asked_for(self, api: Api) -> None:
        job = api.create()["id"]
        for accept in ("*/*", "application/json", "text/html"):
            response = api.client.get(f"/v1/jobs/{job}/events", headers={"Accept": accept})
            assert response.headers["content-type"] == "application/json"
        api.client.post(f"/v1/jobs/{job}/cancel")
        for accept in ("text/event-stream", "Text/Event-Stream;q=0.9, */*"):
            response = api.client.get(f"/v1/jobs/{job}/events", headers={"Accept": accept})
            assert response.headers["content-type"].startswith("text/event-stream")

    @staticmethod
    def stream(api: Api, job: str, **headers: str) -> list[dict[str, Any]]:
        import json

        with api.client.stream("GET", f"/v1/jobs/{job}/events", headers={"Accept": "text/event-stream", **headers}) as answer:
            blocks = "".join(answer.iter_text()).strip().split("\n\n")
        events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks if block]
        return [{**event, "data": json.loads(event["data"])} for event in events]

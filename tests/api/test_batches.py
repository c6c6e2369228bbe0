"""Jobs submitted together, and the short cut of those submitted alone."""

import asyncio
import threading
from functools import partial
from typing import Any

import pytest
from factories import spec_of, write
from running_api import Api
from sqlalchemy import event
from sqlmodel import func, select

from modelyard.api.callers import Callers
from modelyard.api.jobs import direct
from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.tables import Job, JobEvent
from modelyard.domain.projects.repository import get_key_or_raise, list_keys

BODY = {"spec": spec_of("import")}
NOT_PLAIN = {"Content-Type": "application/json; charset=utf-8"}
"""Means the same, and goes the ordinary way."""
PER_JOB = {"id", "submitted_at"}


def count(api: Api) -> int:
    """How many jobs there are."""
    return int(api.factory.find(select(func.count()).select_from(Job))[0])


def without_ids(value: Any) -> Any:
    """An answer without what differs from job to job."""
    if isinstance(value, list):
        return [without_ids(each) for each in value]
    return {key: without_ids(each) for key, each in value.items() if key not in PER_JOB} if isinstance(value, dict) else value


class TestBatch:
    def test_ids_and_states_in_order(self, api_on_both: Api) -> None:
        bodies = [{"spec": spec_of("import"), "name": f"number {number}"} for number in range(500)]
        response = api_on_both.client.post("/v1/jobs/batch", json={"jobs": bodies})
        assert response.status_code == 202, response.text
        data = response.json()["data"]
        assert {tuple(each) for each in data} == {("object", "id", "state", "reason")}
        jobs = {job.id: job for job in api_on_both.factory.find(select(Job))}
        assert [jobs[each["id"]].name for each in data] == [body["name"] for body in bodies]
        assert {each["state"] for each in data} == {"queued"}
        assert api_on_both.factory.find(select(func.count()).select_from(JobEvent)) == [500]

    def test_whole_jobs_when_asked_for(self, api: Api) -> None:
        shown = api.client.post("/v1/jobs/batch?whole=true", json={"jobs": [BODY]}).json()["data"]
        assert shown == [api.client.get(f"/v1/jobs/{shown[0]['id']}").json()]

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            ({"spec": spec_of("pretrain", steps=0)}, "jobs.2.spec.steps"),
            ({"spec": spec_of("import"), "priority": 101}, "jobs.2.priority"),
            ({"spec": spec_of("import"), "resources": {"slots": 2}}, "jobs.2.resources.slots"),
            ({"spec": spec_of("pretrain", dataset="nothing")}, "jobs.2.spec.dataset"),
        ],
    )
    def test_all_or_nothing(self, api_on_both: Api, wrong: dict[str, Any], field: str) -> None:
        response = api_on_both.client.post("/v1/jobs/batch", json={"jobs": [BODY, BODY, wrong, BODY]})
        assert response.status_code == 422
        assert field in [entry["field"] for entry in response.json()["errors"]], response.text
        assert count(api_on_both) == 0

    @pytest.mark.parametrize("number", [0, 501])
    def test_has_a_size(self, api: Api, check_problem: Any, number: int) -> None:
        check_problem(api.client.post("/v1/jobs/batch", json={"jobs": [BODY] * number}), 422, "invalid_request", "jobs")

    def test_once_per_key(self, api_on_both: Api, check_problem: Any) -> None:
        def post(*bodies: dict[str, Any]) -> Any:
            return api_on_both.client.post("/v1/jobs/batch", json={"jobs": bodies}, headers={"Idempotency-Key": "one"})

        first = post(BODY, BODY)
        assert post(BODY, BODY).json() == first.json()
        check_problem(post(BODY), 422, "idempotency_key_reused", "Idempotency-Key")
        assert count(api_on_both) == 2

    def test_a_refused_one_does_not_use_up_its_key(self, api: Api) -> None:
        def post() -> Any:
            body = {"jobs": [BODY, {"spec": spec_of("pretrain")}]}
            return api.client.post("/v1/jobs/batch", json=body, headers={"Idempotency-Key": "one"})

        assert post().status_code == 422
        api.factory.registered()
        assert post().status_code == 202
        assert count(api) == 2


class TestShortCut:
    @pytest.fixture
    def taken(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The requests that took the short cut."""
        taken: list[str] = []

        async def spy(path: str, ordinary: Any, **arguments: Any) -> Any:
            taken.append(path)
            return await ordinary(**arguments)

        for path, (model, ordinary) in direct.ROUTES.items():
            monkeypatch.setitem(direct.ROUTES, path, (model, partial(spy, path, ordinary)))
        return taken

    @pytest.mark.parametrize(("path", "body"), [("/v1/jobs", BODY), ("/v1/jobs/batch", {"jobs": [BODY, BODY]})])
    def test_answers_like_the_ordinary_way(self, api_on_both: Api, taken: list[str], path: str, body: dict[str, Any]) -> None:
        client = api_on_both.client
        ordinary = client.post(path, json=body, headers=NOT_PLAIN)
        assert taken == []
        short = client.post(path, json=body)
        assert taken == [path]
        assert (short.status_code, list(short.headers)) == (202, list(ordinary.headers))
        assert without_ids(short.json()) == without_ids(ordinary.json())
        whole = client.get("/v1/jobs").json()["data"]
        number = len(whole) // 2
        assert [without_ids(each) for each in whole[:number]] == [without_ids(each) for each in whole[number:]]
        assert path == "/v1/jobs/batch" or whole[0] == short.json()

    @pytest.mark.parametrize(
        ("content", "headers"),
        [
            (b"{", {}),
            (b'{"spec": {"kind": "dance"}}', {}),
            (b'{"spec": {"kind": "pretrain", "name": "x", "dataset": "nothing"}}', {}),
            (b'{"jobs": [{"spec": {"kind": "dance"}}]}', {}),
            (b'{"jobs": [{"spec": {"kind": "pretrain", "name": "x", "dataset": "nothing"}}]}', {}),
            (b"{}", {"Content-Type": "text/plain"}),
            (b"{}", {"Idempotency-Key": "x" * 201}),
            (b"{}", {"Authorization": "Bearer wrong"}),
            (b"{}", {"Authorization": "Basic abc"}),
        ],
    )
    @pytest.mark.parametrize("path", direct.ROUTES)
    def test_mistakes_are_answered_as_ever(self, api: Api, path: str, content: bytes, headers: dict[str, str]) -> None:
        ordinary = api.client.post(path, content=content, headers={**NOT_PLAIN, **headers})
        short = api.client.post(path, content=content, headers={"Content-Type": "application/json", **headers})
        assert (short.status_code, short.json()) == (ordinary.status_code, ordinary.json())
        assert short.status_code in {401, 422}
        assert count(api) == 0

    def test_too_large_a_body(self, api: Api, check_problem: Any) -> None:
        large = {"spec": spec_of("import"), "name": "x" * 2**20}
        for _ in range(2):
            check_problem(api.client.post("/v1/jobs", json=large), 413, "body_too_large")
            api.create()

    def test_a_process_that_stops_says_so(self, api: Api, check_problem: Any, taken: list[str]) -> None:
        api.create()
        api.app.state.platform.job_writer.close()
        response = api.client.post("/v1/jobs", json=BODY)
        check_problem(response, 503, "busy")
        assert response.headers["retry-after"] == "2"
        assert len(taken) == 2
        assert count(api) == 1

    def test_needs_the_scope(self, api: Api, check_problem: Any) -> None:
        reader = api.with_key(api.key("read"))
        for _ in range(2):
            check_problem(reader.post("/v1/jobs", json=BODY), 403, "missing_scope")

    def test_repeats_show_the_job_as_it_is_now(self, api_on_both: Api) -> None:
        def post() -> Any:
            return api_on_both.client.post("/v1/jobs", json=BODY, headers={"Idempotency-Key": "one"}).json()

        first = post()
        job = api_on_both.factory.claimed(api_on_both.factory.get(Job, first["id"]))
        write(api_on_both.factory.database, finish, job.id, 1, Outcome.BAD_DATA, "no such file")
        again = post()
        assert (again["id"], again["state"]) == (first["id"], "failed")
        assert again["error"] == {"reason": "bad_data", "message": "no such file"}

    def test_the_same_key_at_the_same_moment(self, api_on_both: Api, taken: list[str]) -> None:
        api_on_both.create()
        answers: list[Any] = []

        def post(number: int) -> None:
            headers = {"Idempotency-Key": f"key-{number % 5}"}
            answers.append((number % 5, api_on_both.client.post("/v1/jobs", json=BODY, headers=headers).json()["id"]))

        threads = [threading.Thread(target=post, args=(number,)) for number in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(answers)) == 5
        assert count(api_on_both) == 6
        assert len(taken) == 41


class TestKeys:
    def test_a_revoked_key_opens_nothing_from_then_on(self, api: Api, check_problem: Any) -> None:
        key = api.key("write")
        client = api.with_key(key)
        assert client.post("/v1/jobs", json=BODY).status_code == 202
        (row,) = [row for row in api.client.get("/v1/keys").json()["data"] if row["scopes"] == ["write"]]
        assert api.client.delete(f"/v1/keys/{row['id']}").status_code == 204
        check_problem(client.post("/v1/jobs", json=BODY), 401, "invalid_api_key")

    def test_revoked_elsewhere_it_is_soon_forgotten(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("modelyard.api.callers.REMEMBERED_SECONDS", 0.0)
        client = api.with_key(api.key("write"))
        assert client.post("/v1/jobs", json=BODY).status_code == 202
        (row,) = [row for row in api.client.get("/v1/keys").json()["data"] if row["scopes"] == ["write"]]
        with api.factory.database.write() as session:
            get_key_or_raise(session, api.factory.project_id, row["id"]).revoked_at = 1.0
        assert client.post("/v1/jobs", json=BODY).status_code == 401

    def test_the_cache_holds_no_secret(self, api: Api) -> None:
        api.create()
        callers: Callers = api.app.state.platform.callers
        secret = api.client.headers["Authorization"].removeprefix("Bearer ")
        assert len(callers.__dict__["_known"]) == 1
        assert secret not in repr(callers.__dict__)

    def test_many_at_once_share_one_look(self, api: Api) -> None:
        callers, secret = Callers(api.factory.database), api.key("write")
        looks: list[str] = []
        event.listen(api.factory.database.engine, "before_cursor_execute", lambda *each: looks.append(each[2]))

        async def ask(number: int) -> list[Any]:
            return await asyncio.gather(*(callers.find(secret) for _ in range(number)))

        found = asyncio.run(ask(32))
        assert {caller.scopes for caller in found} == {frozenset({"write"})}
        assert len([look for look in looks if "api_key" in look]) == 1

    def test_who_asks_after_a_key_was_revoked_does_not_share(self, api: Api) -> None:
        database, secret = api.factory.database, api.key("write")
        callers, was_read, may_go_on = Callers(database), threading.Event(), threading.Event()

        def hold(*each: Any) -> None:
            if "FROM api_key" in each[2] and not was_read.is_set():
                was_read.set()
                may_go_on.wait(10)

        async def ask() -> list[Any]:
            before = asyncio.create_task(callers.find(secret))
            while not was_read.is_set():
                await asyncio.sleep(0.001)
            with database.write() as session:
                for key in list_keys(session, api.factory.project_id):
                    key.revoked_at = 1.0
            callers.forget()
            after = asyncio.create_task(callers.find(secret))
            await asyncio.sleep(0)
            may_go_on.set()
            return await asyncio.gather(before, after, callers.find(secret))

        event.listen(database.engine, "after_cursor_execute", hold)
        before, *after = asyncio.run(ask())
        assert before is not None
        assert after == [None, None]

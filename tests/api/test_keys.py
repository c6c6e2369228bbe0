"""Nobody gets in without a key, and a key opens only its own project."""

import asyncio
from typing import Any

import pytest
from factories import spec_of
from running_api import Api
from starlette.types import ASGIApp, Message

from modelyard.api.app import create_app

OPEN = {"/healthz"}
"""All else needs a key; `/docs` and `/openapi.json` are not in the document."""


class TestDoor:
    def test_every_route_needs_a_key(self, api: Api, check_problem: Any) -> None:
        document = api.client.get("/openapi.json").json()
        anonymous, wrong = api.with_key(""), api.with_key("my_wrong")
        routes = [(method, path) for path, item in document["paths"].items() for method in item if path not in OPEN]
        assert len(routes) > 40
        for method, path in routes:
            filled = path.replace("{", "").replace("}", "")
            for client, code in ((anonymous, "missing_api_key"), (wrong, "invalid_api_key")):
                response = client.request(method, filled)
                check_problem(response, 401, code, "Authorization")
                assert response.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize("path", ["/healthz", "/docs", "/openapi.json", "/docs/scalar.js"])
    def test_what_is_open(self, api: Api, path: str) -> None:
        assert api.with_key("").get(path).status_code == 200

    @pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic bXk6eA==", "my_key", "Bearer \xff"])
    def test_headers_that_are_no_key(self, api: Api, header: str) -> None:
        response = api.with_key("").get("/v1/jobs", headers={"Authorization": header.encode("latin-1")})
        assert response.status_code == 401


class TestGate:
    """The key comes first: nothing of a body is read, let alone kept on disk, for somebody nobody knows."""

    @pytest.mark.parametrize("path", ["/v1/jobs", "/v1/datasets", "/v1/nowhere"])
    @pytest.mark.parametrize(("authorization", "code"), [(None, b"missing_api_key"), ("Bearer my_wrong", b"invalid_api_key")])
    @pytest.mark.parametrize("size", [("transfer-encoding", "chunked"), ("content-length", str(2**40))])
    def test_not_a_byte_is_read(self, api: Api, path: str, authorization: str | None, code: bytes, size: tuple[str, str]) -> None:
        headers = {"content-type": "multipart/form-data; boundary=x", size[0]: size[1]}
        if authorization is not None:
            headers["authorization"] = authorization
        read, sent = asyncio.run(ask(api.app, path, headers))
        assert read == 0
        assert sent[0]["status"] == 401
        assert (b"connection", b"close") in sent[0]["headers"], "else the server would go on taking what comes"
        assert code in sent[1]["body"]

    def test_with_a_key_it_is(self, api: Api) -> None:
        headers = {"content-type": "application/json", "transfer-encoding": "chunked", "authorization": f"Bearer {api.key()}"}
        read, sent = asyncio.run(ask(api.app, "/v1/jobs", headers))
        assert (read, sent[0]["status"]) == (2**20 // 2**16 + 1, 413)

    def test_forms_of_the_dashboard_stay_in_memory(self, api: Api) -> None:
        app = create_app(api.settings.model_copy(update={"max_body_megabytes": 64}))
        headers = {"content-type": "application/x-www-form-urlencoded", "transfer-encoding": "chunked"}
        read, sent = asyncio.run(ask(app, "/login", headers))
        assert (read, sent[0]["status"]) == (2**20 // 2**16 + 1, 413)


async def ask(app: ASGIApp, path: str, headers: dict[str, str]) -> tuple[int, list[Message]]:
    """POST a body that never ends; how many parts of it were read, and the answer."""
    read, sent = 0, list[Message]()

    async def receive() -> Message:
        nonlocal read
        read += 1
        assert read < 100, "nobody stops reading"
        return {"type": "http.request", "body": b"x" * 2**16, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": raw, "server": ("test", 80)}
    await app({**scope, "scheme": "http", "http_version": "1.1", "root_path": ""}, receive, send)
    return read, sent


class TestScopes:
    @pytest.mark.parametrize(
        ("scopes", "read", "write", "admin"),
        [
            (("read",), 200, 403, 403),
            (("write",), 403, 202, 403),
            (("read", "write"), 200, 202, 403),
            (("admin",), 200, 202, 200),
        ],
    )
    def test_table(self, api: Api, scopes: tuple[str, ...], read: int, write: int, admin: int) -> None:
        client = api.with_key(api.key(*scopes))
        assert client.get("/v1/jobs").status_code == read
        assert client.post("/v1/jobs", json={"spec": spec_of("import")}).status_code == write
        assert client.get("/v1/keys").status_code == admin

    def test_says_which_scope_is_missing(self, api: Api, check_problem: Any) -> None:
        problem = check_problem(
            api.with_key(api.key("read")).post("/v1/jobs", json={"spec": spec_of("import")}), 403, "missing_scope"
        )
        assert "'write'" in problem["detail"]
        assert api.client.get("/v1/jobs").json()["data"] == []


class TestProjects:
    def test_what_belongs_to_others_does_not_exist(self, api: Api, check_problem: Any) -> None:
        job = api.create()
        api.factory.registered()
        api.factory.deployment()
        theirs = api.with_key(api.key(project="theirs"))
        paths = ["", "/explain", "/events", "/metrics", "/logs", "/attempts", "/checkpoints"]
        for path in paths:
            check_problem(theirs.get(f"/v1/jobs/{job['id']}{path}"), 404, "not_found")
        for action in ("cancel", "pause", "resume"):
            check_problem(theirs.post(f"/v1/jobs/{job['id']}/{action}"), 404, "not_found")
        for path in ("datasets/corpus", "deployments/chat", "deployments/chat/interactions", "pipelines/pipe_1"):
            check_problem(theirs.get(f"/v1/{path}"), 404, "not_found")
        for path in ("jobs", "datasets", "deployments", "pipelines"):
            assert theirs.get(f"/v1/{path}").json()["data"] == []
        assert api.client.get(f"/v1/jobs/{job['id']}").json()["state"] == "queued"


class TestManage:
    def test_made_used_revoked(self, api: Api, check_problem: Any) -> None:
        made = api.client.post("/v1/keys", json={"name": "nightly", "scopes": ["read"]})
        assert made.status_code == 201
        client = api.with_key(made.json()["key"])
        assert client.get("/v1/jobs").status_code == 200
        listed = api.client.get("/v1/keys").json()["data"]
        assert made.json()["key"] not in str(listed)
        assert made.json()["id"] in [key["id"] for key in listed]
        assert api.client.delete(f"/v1/keys/{made.json()['id']}").status_code == 204
        check_problem(client.get("/v1/jobs"), 401, "invalid_api_key")

    def test_the_same_request_makes_one_key(self, api: Api, check_problem: Any) -> None:
        once = {"Idempotency-Key": "first"}
        made = api.client.post("/v1/keys", json={"name": "nightly"}, headers=once).json()
        problem = check_problem(
            api.client.post("/v1/keys", json={"name": "nightly"}, headers=once), 409, "secret_already_shown", "Idempotency-Key"
        )
        assert f"DELETE /v1/keys/{made['id']}" in problem["detail"]
        assert made["key"] not in str(problem)
        check_problem(api.client.post("/v1/keys", json={"name": "other"}, headers=once), 422, "idempotency_key_reused")
        names = [key["name"] for key in api.client.get("/v1/keys").json()["data"]]
        assert sorted(names) == ["nightly", "test"]

    def test_no_key_ends_itself(self, api: Api, check_problem: Any) -> None:
        (own,) = api.client.get("/v1/keys").json()["data"]
        check_problem(api.client.delete(f"/v1/keys/{own['id']}"), 409, "own_key")

    def test_keys_of_others(self, api: Api, check_problem: Any) -> None:
        theirs = api.with_key(api.key(project="theirs"))
        (mine,) = api.client.get("/v1/keys").json()["data"]
        check_problem(theirs.delete(f"/v1/keys/{mine['id']}"), 404, "not_found")

    @pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "x", "scopes": []}, {"name": "x", "scopes": ["root"]}])
    def test_impossible_keys(self, api: Api, check_problem: Any, body: dict[str, Any]) -> None:
        check_problem(api.client.post("/v1/keys", json=body), 422, "invalid_request")

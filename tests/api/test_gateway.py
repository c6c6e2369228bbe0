"""Chat completions pass through the gateway, and every one of them is recorded, however it ended."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import uvicorn
from model_server import USAGE, ModelServer, run_model_server
from running_api import Api
from servers import free_port
from sqlalchemy import text
from sqlmodel import select
from structlog.testing import capture_logs

from modelyard.api.deployments import gateway
from modelyard.domain.deployments.tables import Interaction
from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.tables import Job
from modelyard.kit.logs import get_logger

JSON = {"Content-Type": "application/json"}
MESSAGES: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """A model server."""
    with run_model_server() as running:
        yield running


@pytest.fixture
def deployment(api: Api, server: ModelServer) -> str:
    """A deployment `chat` answered by that server."""
    return api.factory.deployment(url=server.url)


@pytest.fixture
def client(api: Api) -> openai.OpenAI:
    """The official client, over the same in-process connection."""
    return openai.OpenAI(api_key=api.key("read"), base_url="http://testserver/v1", http_client=api.client, max_retries=0)


def ask(api: Api, **body: Any) -> Any:
    """Ask the deployment."""
    return api.client.post("/v1/chat/completions", json={"model": "chat", "messages": MESSAGES, **body})


def recorded(api: Api) -> list[Interaction]:
    """Every interaction, oldest first."""
    return api.factory.find(select(Interaction).order_by(Interaction.id))


@pytest.mark.usefixtures("deployment")
class TestWhole:
    def test_passes_on_and_records(self, api: Api, server: ModelServer, client: openai.OpenAI) -> None:
        answer = client.chat.completions.create(model="chat", messages=MESSAGES, max_tokens=7)
        assert answer.choices[0].message.content == "Paris"
        assert server.asked == [{"model": "chat", "messages": MESSAGES, "max_tokens": 7}]
        assert server.tokens == ["Bearer srv_token"]
        (row,) = recorded(api)
        assert (row.status, row.answer, row.streamed, row.messages) == (200, "Paris", False, MESSAGES)
        assert (row.prompt_tokens, row.completion_tokens, row.time_to_first_token_seconds) == (3, 2, None)
        assert 0 < row.latency_seconds < 30
        listed = api.client.get("/v1/deployments/chat/interactions").json()["data"]
        assert [each["answer"] for each in listed] == ["Paris"]
        assert "srv_token" not in json.dumps(listed) + api.client.get("/v1/deployments/chat").text

    @pytest.mark.parametrize("status", [400, 422, 500, 503])
    def test_errors_of_the_server_come_through(self, api: Api, server: ModelServer, status: int) -> None:
        server.status = status
        for stream in (False, True):
            response = ask(api, stream=stream)
            assert (response.status_code, response.json()["error"]["message"]) == (status, "no")
        assert [(row.status, row.answer) for row in recorded(api)] == [(status, ""), (status, "")]

    def test_a_server_that_breaks_off(self, api: Api, server: ModelServer, check_problem: Any) -> None:
        server.dies_after = 0
        check_problem(ask(api), 502, "model_unreachable", "model")
        assert [row.status for row in recorded(api)] == [502]

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"model": ""}, "model"),
            ({"model": None}, "model"),
            ({"model": 5}, "model"),
            ({"model": "\0"}, "model"),
            ({"messages": []}, "messages"),
            ({"messages": "Hello"}, "messages"),
            ({"stream": True, "stream_options": "all"}, "stream_options"),
        ],
    )
    def test_impossible_requests(self, api: Api, check_problem: Any, body: dict[str, Any], field: str) -> None:
        check_problem(ask(api, **body), 422, "invalid_request", field)
        assert recorded(api) == []

    def test_half_a_character_is_no_name(self, api: Api, check_problem: Any) -> None:
        body = rb'{"model": "\ud800", "messages": [{"role": "user", "content": "a"}]}'
        response = api.client.post("/v1/chat/completions", content=body, headers=JSON)
        check_problem(response, 422, "invalid_request", "model")

    def test_numbers_that_are_none(self, api: Api, server: ModelServer) -> None:
        body = b'{"model": "chat", "messages": [{"role": "user", "content": "a", "x": NaN}]}'
        assert api.client.post("/v1/chat/completions", content=body, headers=JSON).status_code == 200
        assert recorded(api)[0].messages[0]["x"] is None


@pytest.mark.usefixtures("deployment")
class TestStream:
    def test_passes_on_and_records(self, api: Api, server: ModelServer, client: openai.OpenAI) -> None:
        chunks = list(client.chat.completions.create(model="chat", messages=MESSAGES, stream=True))
        assert [chunk.choices[0].delta.content for chunk in chunks] == ["Par", "is"]
        assert server.asked[0]["stream_options"] == {"include_usage": True}
        (row,) = recorded(api)
        assert (row.status, row.answer, row.streamed, row.prompt_tokens, row.completion_tokens) == (200, "Paris", True, 3, 2)
        assert row.time_to_first_token_seconds is not None
        assert 0 < row.time_to_first_token_seconds <= row.latency_seconds

    def test_usage_for_those_who_asked(self, client: openai.OpenAI) -> None:
        stream = client.chat.completions.create(
            model="chat", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        *_, last = stream
        assert last.usage is not None
        assert last.usage.model_dump(include=USAGE.keys()) == USAGE

    def test_ends_as_openai_does(self, api: Api) -> None:
        assert ask(api, stream=True).text.endswith("data: [DONE]\n\n")

    @pytest.mark.parametrize("dies_after", [0, 1])
    def test_a_server_that_dies(self, api: Api, server: ModelServer, dies_after: int) -> None:
        server.dies_after = dies_after
        response = ask(api, stream=True)
        assert "The model server broke off" in response.text
        assert [(row.status, row.answer) for row in recorded(api)] == [(502, "Par" * dies_after)]

    def test_a_server_that_says_it_cannot_go_on(self, api: Api, server: ModelServer) -> None:
        server.errs = True
        assert "out of memory" in ask(api, stream=True).text
        assert [row.status for row in recorded(api)] == [502]

    def test_a_server_that_does_not_say_it_is_done(self, api: Api, server: ModelServer) -> None:
        server.closes_properly = False
        ask(api, stream=True)
        assert [(row.status, row.answer) for row in recorded(api)] == [(200, "Paris")]

    def test_a_client_that_leaves(self, api: Api, server: ModelServer) -> None:
        server.waits_for = threading.Event()
        with over_the_network(api) as url:
            with openai.OpenAI(api_key=api.key(), base_url=f"{url}/v1", max_retries=0) as client:
                stream = client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
                assert next(iter(stream)).choices[0].delta.content == "Par"
                stream.close()
            deadline = time.monotonic() + 20
            while not recorded(api) and time.monotonic() < deadline:
                server.waits_for.wait(0.02)  # the server is still thinking; nobody wakes it
        assert [(row.status, row.answer, row.streamed) for row in recorded(api)] == [(499, "Par", True)]


@pytest.mark.usefixtures("deployment")
class TestCannotRecord:
    """The disk is full: SQLite then raises at the insert."""

    @pytest.fixture(autouse=True)
    def full_disk(self, api: Api) -> None:
        with api.factory.database.write() as session:
            session.execute(
                text("CREATE TRIGGER full BEFORE INSERT ON interaction BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
            )

    @pytest.mark.parametrize("stream", [False, True])
    def test_the_client_has_its_answer(self, api: Api, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gateway, "log", get_logger("fresh"))  # one in use keeps the output it first wrote to
        with capture_logs() as logs:
            response = ask(api, stream=stream)
        assert response.status_code == 200
        assert response.text.endswith("data: [DONE]\n\n") if stream else "Paris" in response.text
        (entry,) = logs
        assert (entry["log_level"], entry["event"], entry["cause"]) == ("error", "interaction not recorded", "IntegrityError")
        assert "capital" not in str(logs)
        assert "Par" not in str(logs)

    def test_errors_of_the_server_come_through(self, api: Api, server: ModelServer, check_problem: Any) -> None:
        server.status = 400
        assert ask(api).status_code == 400
        server.status, server.dies_after = 200, 0
        check_problem(ask(api), 502, "model_unreachable", "model")


@pytest.mark.usefixtures("deployment")
class TestManyAtOnce:
    def test_far_more_than_the_usual_hundred(self, api: Api, server: ModelServer) -> None:
        server.waits_for = threading.Event()
        chats = 120
        with over_the_network(api) as url, openai.OpenAI(api_key=api.key(), base_url=f"{url}/v1", max_retries=0) as client:
            streams = [
                client.chat.completions.create(model="chat", messages=MESSAGES, stream=True, timeout=15) for _ in range(chats)
            ]
            firsts = [next(iter(stream)).choices[0].delta.content for stream in streams]
            server.waits_for.set()
            rests = [list(stream)[-1].choices[0].delta.content for stream in streams]
        assert (firsts, rests) == (["Par"] * chats, ["is"] * chats)

    def test_when_all_connections_are_taken(self, api: Api, server: ModelServer) -> None:
        server.waits_for = threading.Event()
        api.app.state.model_client = gateway.make_client(max_connections=1)
        with over_the_network(api) as url, openai.OpenAI(api_key=api.key(), base_url=f"{url}/v1", max_retries=0) as client:
            stream = client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
            assert next(iter(stream)).choices[0].delta.content == "Par"
            with pytest.raises(openai.InternalServerError, match="Too many chats") as caught:
                client.chat.completions.create(model="chat", messages=MESSAGES)
            server.waits_for.set()
            assert list(stream)[-1].choices[0].delta.content == "is"
        assert (caught.value.status_code, caught.value.response.headers["Retry-After"]) == (503, "2")
        assert sorted(row.status for row in recorded(api)) == [200, 503]


class TestNobodyAnswers:
    def test_a_server_that_is_gone(self, api: Api, check_problem: Any) -> None:
        api.factory.deployment(url=f"http://127.0.0.1:{free_port()}")
        for stream in (False, True):
            check_problem(ask(api, stream=stream), 502, "model_unreachable", "model")
        assert [row.status for row in recorded(api)] == [502, 502]

    def test_a_runner_that_was_lost(self, api: Api, check_problem: Any) -> None:
        api.factory.deployment()
        job = api.factory.find(select(Job))[0]
        with api.factory.database.write() as session:
            finish(session, job.id, 1, Outcome.RUNNER_LOST)
        check_problem(ask(api), 404, "model_not_found", "model")

    def test_the_deployment_of_another_project(self, api: Api, deployment: str, check_problem: Any) -> None:
        theirs = api.with_key(api.key(project="theirs"))
        response = theirs.post("/v1/chat/completions", json={"model": "chat", "messages": MESSAGES})
        check_problem(response, 404, "model_not_found", "model")


class TestRoutes:
    def test_deploy_look_stop(self, api: Api, check_problem: Any) -> None:
        check_problem(
            api.client.post("/v1/deployments", json={"name": "chat", "model": "base"}), 422, "unknown_reference", "spec.model"
        )
        api.factory.registered("model", "base")
        job = api.client.post("/v1/deployments", json={"name": "chat", "model": "base", "resources": {"accelerator": "gpu"}})
        assert (job.status_code, job.json()["kind"], job.json()["queue"]) == (202, "deploy", "deploy.1gpu")
        check_problem(api.client.get("/v1/deployments/chat"), 404, "not_found")
        ready = api.factory.deployment()
        shown = api.client.get("/v1/deployments/chat").json()
        assert (shown["id"], shown["state"], shown["stopped_at"]) == (ready, "ready", None)
        assert "token" not in shown
        assert [each["id"] for each in api.client.get("/v1/deployments").json()["data"]] == [ready]
        stopped = api.client.post("/v1/deployments/chat/stop")
        assert (stopped.status_code, stopped.json()["state"]) == (202, "cancelling")
        assert api.client.get("/v1/deployments/chat/lineage").json()["job"]["inputs"]["model"]["name"] == "base"


class over_the_network:
    """The same application behind a real web server, where a client can hang up."""

    def __init__(self, api: Api) -> None:
        self.port = free_port()
        config = uvicorn.Config(api.app, port=self.port, log_level="error", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> str:
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
        return f"http://127.0.0.1:{self.port}"

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=30)

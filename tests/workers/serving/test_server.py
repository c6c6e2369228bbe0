"""The server through the official client and over plain HTTP."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest
from running_server import CONTEXT_TOKENS, RunningServer

from modelyard.workers.language_model import load_language_model
from modelyard.workers.serving.engine import LARGEST_CPU_BATCH_TOKENS

QUESTIONS = [f"What is the {word}?" for word in ("apple", "river", "engine", "violin", "planet", "garden", "winter", "letter")]


def chat_body(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8, **fields}


class TestAuthorization:
    @pytest.mark.parametrize("path", ["/v1/models", "/v1/models/tiny", "/docs", "/openapi.json", "/anything"])
    @pytest.mark.parametrize("header", [None, "Bearer wrong", "correct-horse", "Basic correct-horse"])
    def test_every_path_but_health_needs_the_token(self, server: RunningServer, path: str, header: str | None) -> None:
        answer = httpx2.get(server.url + path, headers={"Authorization": header} if header else {})
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"

    def test_no_text_is_written_without_it(self, server: RunningServer) -> None:
        assert httpx2.post(f"{server.url}/v1/chat/completions", json=chat_body()).status_code == 401
        assert httpx2.post(f"{server.url}/v1/completions", json={"model": "tiny", "prompt": "a"}).status_code == 401

    def test_health_is_open(self, server: RunningServer) -> None:
        assert httpx2.get(f"{server.url}/health").json() == {"status": "ok", "requests_in_flight": 0}

    def test_there_are_no_other_pages(self, server: RunningServer) -> None:
        assert server.http.get("/openapi.json").status_code == 404


class TestChat:
    def test_answers_as_the_model_does_by_itself(self, server: RunningServer) -> None:
        model = load_language_model(server.model_folder)
        prompts = [[{"role": "user", "content": question}] for question in QUESTIONS[:3]]
        expected = dict(model.answer_greedily(prompts, 12))
        for index, question in enumerate(QUESTIONS[:3]):
            answer = server.ask(question)
            assert answer.choices[0].message.content.strip() == expected[index]
            assert answer.choices[0].finish_reason == "length"
            assert answer.usage.prompt_tokens == len(model.encode_prompt(prompts[index]))
            assert answer.usage.completion_tokens == 12
            assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12

    def test_a_prompt_read_in_pieces_is_understood_the_same(self, server: RunningServer) -> None:
        model = load_language_model(server.model_folder)
        question = "What about the river " * 180
        prompt = [{"role": "user", "content": question}]
        assert len(model.encode_prompt(prompt)) > LARGEST_CPU_BATCH_TOKENS
        # The last character may be cut by the limit: the server leaves it out, `decode` puts a mark in its place.
        expected = next(model.answer_greedily([prompt], 12))[1].rstrip("\ufffd")
        assert server.ask(question).choices[0].message.content.strip() == expected

    def test_a_stream_says_the_same(self, server: RunningServer) -> None:
        whole = server.ask(QUESTIONS[0], max_tokens=30)
        chunks = list(server.ask(QUESTIONS[0], max_tokens=30, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
        assert chunks[0].choices[0].delta.role == "assistant"
        assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "length"]
        assert chunks[-1].usage == whole.usage
        assert len(chunks) > 5

    def test_usage_comes_in_a_chunk_of_its_own_if_asked(self, server: RunningServer) -> None:
        *others, last = server.ask(QUESTIONS[0], stream=True, stream_options={"include_usage": True})
        assert last.choices == []
        assert last.usage.completion_tokens == 12
        assert all(chunk.usage is None for chunk in others)

    def test_a_stream_is_closed_with_done(self, server: RunningServer) -> None:
        body = server.http.post("/v1/chat/completions", json=chat_body(stream=True)).text
        assert body.endswith("}\n\ndata: [DONE]\n\n")
        assert body.count("[DONE]") == 1

    def test_clients_at_once_do_not_mix(self, server: RunningServer) -> None:
        alone = [server.ask(question, max_tokens=20).choices[0].message.content for question in QUESTIONS]
        with ThreadPoolExecutor(len(QUESTIONS)) as clients:
            together = [
                answer.choices[0].message.content
                for answer in clients.map(lambda question: server.ask(question, max_tokens=20), QUESTIONS)
            ]
        assert together == alone
        assert len(set(alone)) > 1

    def test_greedy_and_sampled_requests_share_a_batch(self, server: RunningServer) -> None:
        expected = server.ask(QUESTIONS[0]).choices[0].message.content
        temperatures = [0.0, 1.9] * 6
        with ThreadPoolExecutor(len(temperatures)) as clients:
            found = list(clients.map(lambda t: server.ask(QUESTIONS[0], temperature=t, top_p=0.99), temperatures))
        texts = [answer.choices[0].message.content for answer in found]
        assert texts[0::2] == [expected] * 6
        assert len(set(texts[1::2])) > 1

    def test_the_answer_ends_before_a_stop_text(self, server: RunningServer) -> None:
        whole = server.ask(QUESTIONS[1], max_tokens=30).choices[0].message.content
        stop = whole[8:11]
        cut = server.ask(QUESTIONS[1], max_tokens=30, stop=[stop]).choices[0]
        assert cut.message.content == whole[: whole.index(stop)]
        assert cut.finish_reason == "stop"

    def test_text_parts_are_joined(self, server: RunningServer) -> None:
        parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "the apple?"}]
        split = server.client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": parts}], max_tokens=12)
        assert split.choices[0].message.content == server.ask(QUESTIONS[0]).choices[0].message.content


class TestCompletions:
    def test_whole_and_streamed(self, server: RunningServer) -> None:
        whole = server.client.completions.create(model="tiny", prompt="The apple", max_tokens=10)
        chunks = list(server.client.completions.create(model="tiny", prompt="The apple", max_tokens=10, stream=True))
        assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
        assert chunks[-1].usage == whole.usage
        assert whole.usage.completion_tokens == 10

    def test_the_limit_is_openai_s_default(self, server: RunningServer) -> None:
        assert server.client.completions.create(model="tiny", prompt="The apple").usage.completion_tokens == 16


class TestModels:
    def test_the_one_model_is_listed(self, server: RunningServer) -> None:
        assert [model.id for model in server.client.models.list()] == ["tiny"]
        assert server.client.models.retrieve("tiny").id == "tiny"


class TestRefuse:
    @pytest.mark.parametrize(
        ("fields", "status", "param"),
        [
            ({"model": "other"}, 404, "model"),
            ({"messages": []}, 400, "messages"),
            ({"messages": None}, 400, "messages"),
            ({"messages": [{"role": "tool", "content": "x"}]}, 400, "messages.0.role"),
            ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages.0.content"),
            ({"max_tokens": 0}, 400, "max_tokens"),
            ({"temperature": -1}, 400, "temperature"),
            ({"temperature": "NaN"}, 400, "temperature"),
            ({"top_p": 0}, 400, "top_p"),
            ({"n": 2}, 400, None),
            ({"tools": [{"type": "function"}]}, 400, None),
            ({"response_format": {"type": "json_object"}}, 400, None),
            ({"seed": 1, "temperature": 1}, 400, "seed"),
        ],
    )
    def test_says_what_is_wrong(self, server: RunningServer, fields: dict[str, Any], status: int, param: str | None) -> None:
        answer = server.http.post("/v1/chat/completions", json=chat_body(**fields))
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert error["param"] == param
        assert error["message"]

    def test_a_prompt_longer_than_the_context(self, server: RunningServer) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            server.ask("river " * CONTEXT_TOKENS)
        assert caught.value.code == "context_length_exceeded"

    def test_half_a_character(self, server: RunningServer) -> None:
        body = r'{"model": "tiny", "messages": [{"role": "user", "content": "\ud800"}]}'
        answer = server.http.post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "messages.0.content"

    def test_what_is_not_json(self, server: RunningServer) -> None:
        answer = server.http.post("/v1/chat/completions", content="{", headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]

    def test_harmless_values_are_taken(self, server: RunningServer) -> None:
        fields = {"n": 1, "frequency_penalty": 0.0, "presence_penalty": 0, "logprobs": False, "user": "me", "seed": 3}
        assert server.http.post("/v1/chat/completions", json=chat_body(**fields)).status_code == 200


class TestLeave:
    """The whole answer would take many seconds; the computation must end when nobody waits for it."""

    @pytest.mark.parametrize("is_stream", [True, False])
    def test_a_client_who_leaves_ends_the_computation(self, server: RunningServer, is_stream: bool) -> None:
        body = chat_body(stream=is_stream, max_tokens=CONTEXT_TOKENS - 200)
        with server.http as client:
            if is_stream:
                with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                    lines = answer.iter_lines()
                    assert next(lines).startswith("data: {")
                    assert self._in_flight(server) == 1
            else:
                with pytest.raises(httpx2.ReadTimeout):
                    client.post("/v1/chat/completions", json=body, timeout=0.5)
        deadline = time.monotonic() + 3
        while self._in_flight(server) and time.monotonic() < deadline:
            pass
        assert self._in_flight(server) == 0

    @staticmethod
    def _in_flight(server: RunningServer) -> int:
        return int(httpx2.get(f"{server.url}/health").json()["requests_in_flight"])

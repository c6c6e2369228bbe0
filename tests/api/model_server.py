"""A model server as the gateway meets one: speaks OpenAI's chat protocol, and misbehaves when told to."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
WORDS = ("Par", "is")


@dataclass
class ModelServer:
    """What it was asked, and how it behaves."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    """What it was shown as authorization."""
    dies_after: int | None = None
    """Breaks the connection after so many chunks."""
    errs: bool = False
    """Says within the stream that it cannot go on."""
    status: int = 200
    waits_for: threading.Event | None = None
    """Holds the second chunk back until this is set."""
    closes_properly: bool = True
    """Whether a stream ends with `[DONE]`."""


@contextmanager
def run_model_server() -> Iterator[ModelServer]:
    """Run one on a port of its own."""
    behaviour = ModelServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            behaviour.asked.append(body)
            behaviour.tokens.append(self.headers["Authorization"])
            if behaviour.status != 200:
                self.send_whole(behaviour.status, {"error": {"message": "no", "type": "invalid_request_error"}})
            elif body.get("stream"):
                self.send_stream(bool((body.get("stream_options") or {}).get("include_usage")))
            elif behaviour.dies_after is not None:
                self.close_connection = True
            else:
                message = {"role": "assistant", "content": "".join(WORDS)}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                self.send_whole(
                    200, {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}
                )

        def send_whole(self, status: int, document: dict[str, Any]) -> None:
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def send_stream(self, with_usage: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number, word in enumerate(WORDS):
                if number == behaviour.dies_after:
                    self.close_connection = True
                    return
                if number == 1 and behaviour.waits_for is not None:
                    behaviour.waits_for.wait(timeout=30)
                self.send_chunk({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
            if behaviour.errs:
                self.send_chunk({"error": {"message": "out of memory"}})
            elif with_usage:
                self.send_chunk({"choices": [], "usage": USAGE})
            if behaviour.closes_properly:
                self.send_raw(b"data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")

        def send_chunk(self, document: dict[str, Any]) -> None:
            head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
            self.send_raw(f"data: {json.dumps({**head, **document})}\n\n".encode())

        def send_raw(self, content: bytes) -> None:
            self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
            self.wfile.flush()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        behaviour.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield behaviour
        finally:
            if behaviour.waits_for is not None:
                behaviour.waits_for.set()
            server.shutdown()
            thread.join()

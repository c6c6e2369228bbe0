"""Serve a model behind OpenAI's API until told to stop.

python -m modelyard.workers.serving.recipes.serve --spec examples/recipes/deploy.yaml --run-dir /tmp/deploy
"""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import psutil
import uvicorn

from modelyard.domain.specs.deployment import DeploySpec
from modelyard.workers.conversations import read_template
from modelyard.workers.libraries import configure_libraries
from modelyard.workers.recipe import BadData, Run, Stopped, run_recipe

if TYPE_CHECKING:
    from modelyard.workers.serving.service import ModelService

POLL_SECONDS = 0.5
DRAIN_SECONDS = 30
"""How long running answers may take to finish once the server is told to stop."""


def main(run: Run[DeploySpec]) -> None:
    """Load, listen, warm up, announce, and wait for the wish to stop."""
    signals = StopSignals()
    token = _token(run)
    template = read_template(run.inputs["prompt"].path) if "prompt" in run.inputs else None

    listener = _listen(run)
    configure_libraries(run.device)
    from modelyard.workers.language_model import load_language_model
    from modelyard.workers.serving.application import build_application
    from modelyard.workers.serving.engine import Engine
    from modelyard.workers.serving.service import ModelService

    model = load_language_model(run.inputs["model"].path, run.device, run.spec.precision)
    engine = Engine(model)
    try:
        service = ModelService(run.spec.name, engine, template, run.spec.max_new_tokens)
        server = Server(
            uvicorn.Config(build_application(service, token), log_level="info", timeout_graceful_shutdown=DRAIN_SECONDS)
        )
        asyncio.run(_serve(run, server, service, listener, token, signals))
    finally:
        engine.stop(seconds=5)
    raise Stopped


class StopSignals:
    """SIGTERM and SIGINT mean the same as the runner's wish to stop."""

    def __init__(self) -> None:
        self.received = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, *_: Any) -> None:
        self.received = True


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: they would end the process by the signal, not with the code for `saved and left`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `StopSignals`."""
        yield


async def _serve(
    run: Run[DeploySpec],
    server: Server,
    service: "ModelService",
    listener: socket.socket,
    token: str,
    signals: StopSignals,
) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await _warm_up(listener, service, token)
    # From the start of the process: importing torch and transformers is most of the wait for a small model.
    seconds = time.time() - psutil.Process().create_time()
    model = service.engine.language_model
    run.figures(seconds_to_ready=round(seconds, 2), precision=model.precision, context_tokens=model.context_tokens)
    run.ready(_url(run.options.get("advertise_host") or _host(run), listener))
    while not (signals.received or run.stop_requested()):
        await asyncio.wait({serving}, timeout=POLL_SECONDS)
        if service.engine.failure is not None:
            # As it is: the platform tells a GPU out of memory from a mistake by the error's type.
            raise service.engine.failure
        if serving.done():
            raise RuntimeError("the HTTP server stopped by itself; the log says why")
    # Closes the listener, lets running answers finish, and cancels what is left after DRAIN_SECONDS.
    server.should_exit = True
    await serving


async def _warm_up(listener: socket.socket, service: "ModelService", token: str) -> None:
    """Answer one real request over HTTP: ready means that a client would be served."""
    has_chat = service.engine.language_model.tokenizer.chat_template is not None
    path, words = (
        ("chat/completions", {"messages": [{"role": "user", "content": "Hello"}]})
        if has_chat
        else ("completions", {"prompt": "Hello"})
    )
    host = listener.getsockname()[0]
    url = _url("127.0.0.1" if host in {"0.0.0.0", "::"} else host, listener)  # noqa: S104 - read, not bound
    # trust_env=False: a proxy of the environment must not stand before our own loopback.
    async with httpx2.AsyncClient(timeout=None, trust_env=False, headers={"Authorization": f"Bearer {token}"}) as client:
        answer = await client.post(f"{url}/v1/{path}", json={"model": service.name, "max_tokens": 2, **words})
    if answer.status_code != 200:
        raise RuntimeError(f"the warm-up request was answered {answer.status_code}: {answer.text}")


def _token(run: Run[DeploySpec]) -> str:
    token = run.options.get("token") or os.environ.get("MODELYARD_DEPLOYMENT_TOKEN")
    if not token:
        raise BadData(
            "a deployment needs a bearer token: set `options.token`, or MODELYARD_DEPLOYMENT_TOKEN when started by hand"
        )
    return str(token)


def _host(run: Run[DeploySpec]) -> str:
    return str(run.options.get("host") or "127.0.0.1")


def _listen(run: Run[DeploySpec]) -> socket.socket:
    """Bind before loading, so that a taken port fails in a second; port 0 lets the kernel choose a free one."""
    address = (_host(run), int(run.options.get("port") or 0))
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return socket.create_server(address, family=family, backlog=256)


def _url(host: str, listener: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


if __name__ == "__main__":
    run_recipe(main)

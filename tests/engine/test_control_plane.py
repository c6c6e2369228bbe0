"""The control plane goes away piece by piece, the database for twenty seconds: a training run does not notice."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from modelyard.cli.client import Client
from modelyard.cli.errors import ServerUnreachable
from tests.chaos.cluster import Cluster
from tests.chaos.work import ROWS, TRAINING, prepare
from tests.engine.conftest import wait_for
from tests.servers import Postgres

AWAY_SECONDS = 20.0
STEPS = 2000
TRAINING_SECONDS = 120.0
"""Longer than everything around it takes to go away and come back."""
PACE_STEPS, PACE_PASSES = 50, 8


@pytest.fixture
def cluster(tmp_path: Path, postgres: Postgres) -> Iterator[Cluster]:
    """A platform on PostgreSQL with leases of the default length."""
    postgres.empty()
    made = Cluster(tmp_path / "cluster", postgres, lease_seconds=30.0)
    made.start()
    yield made
    made.stop()


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestRestart:
    def test_a_training_run_outlives_everything_around_it(self, cluster: Cluster, tmp_path: Path) -> None:
        client = Client(cluster.url, cluster.key)
        wait_for(lambda: answers(client), "the API to answer")
        self.prepare(client, tmp_path)
        spec = {**TRAINING, "name": "steady", "steps": STEPS, "save_every": 250}
        passes = max(1, round(TRAINING_SECONDS / (STEPS * self.seconds_per_pass(client))))
        job_id = client.submit_job({"spec": {**spec, "gradient_accumulation_steps": passes}})["id"]
        wait_for(lambda: client.get_metrics(job_id), "the first step", seconds=180)

        for name in ("api", "scheduler-1", "scheduler-2", "train-1", "train-2", "train-3"):
            cluster.kill(name)
        cluster.broker.kill()
        self.lose_the_database(cluster)
        cluster.broker.start()
        for name in ("api", "scheduler-1", "scheduler-2", "train-1", "train-2", "train-3"):
            cluster.start_program(name)

        wait_for(lambda: answers(client), "the API to answer again")
        assert client.get_job(job_id)["state"] == "running", "it ended before everything was back: train longer"
        done = wait_for(lambda: self.ended(client, job_id), "the training to end", seconds=420)
        assert (done["state"], done["attempt"]) == ("succeeded", 1)
        points = client.get(f"/v1/jobs/{job_id}/metrics", name="loss", limit=5000)["data"]
        steps = Counter(point["step"] for point in points)
        assert steps == Counter(range(1, STEPS + 1)), "each step is recorded, and once"
        assert client.get("/v1/invariants")["violations"] == []

    def prepare(self, client: Client, tmp_path: Path) -> None:
        (tmp_path / "lines.txt").write_text("\n".join(ROWS))
        client.upload_dataset(tmp_path / "lines.txt", "rows")
        corpus = client.submit_job({"spec": prepare("lines")})["id"]
        wait_for(lambda: client.get_job(corpus)["state"] == "succeeded", "the dataset")

    def seconds_per_pass(self, client: Client) -> float:
        """How long one forward and backward pass takes on this machine, so that the training lasts as long on any."""
        spec = {**TRAINING, "name": "pace", "steps": PACE_STEPS, "gradient_accumulation_steps": PACE_PASSES}
        job_id = client.submit_job({"spec": spec})["id"]
        wait_for(lambda: client.get_job(job_id)["state"] == "succeeded", "the short training")
        times = [datetime.fromisoformat(point["at"]) for point in client.get(f"/v1/jobs/{job_id}/metrics", name="loss")["data"]]
        return (times[-1] - times[0]).total_seconds() / ((len(times) - 1) * PACE_PASSES)

    def lose_the_database(self, cluster: Cluster) -> None:
        assert cluster.postgres is not None
        cluster.postgres.stop()
        try:
            time.sleep(AWAY_SECONDS)  # what is tested: an outage of this length
        finally:
            cluster.postgres.start()

    def ended(self, client: Client, job_id: str) -> Any:
        job = client.get_job(job_id)
        return job if job["state"] not in {"queued", "running"} else None


def answers(client: Client) -> bool:
    try:
        return bool(client.get("/v1/jobs", limit=1))
    except ServerUnreachable:
        return False

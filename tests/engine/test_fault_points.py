"""A process dies or fails at every named place, once: the job still ends well, in exactly one attempt."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from modelyard.cli.client import Client
from modelyard.cli.errors import CommandError
from modelyard.kit.faults import ACTIONS, POINTS
from tests.chaos.cluster import Cluster, is_runner
from tests.chaos.work import ROWS, TRAINING, prepare
from tests.engine.conftest import wait_for

PROGRAMS = ("api", "scheduler-1", "data-1", "train-1")
ELSEWHERE = {"slot_before_commit", "sweep_before_commit", "sweep_between_actions"}
"""Proven with the schedules, since waiting for the next minute takes too long here, and with the sweeps."""


class Proof:
    """A small platform in which every fault point is armed by removing its token."""

    def __init__(self, cluster: Cluster, tokens: Path) -> None:
        self.cluster, self.tokens = cluster, tokens
        self.number = 0
        self.client = Client(cluster.url, cluster.key, timeout_seconds=10.0)

    def arm(self, point: str) -> None:
        (self.tokens / point).unlink()

    def has_fired(self, point: str) -> bool:
        return (self.tokens / point).exists()

    def name(self) -> str:
        self.number += 1
        return f"job-{self.number}"

    def submit(self, spec: dict[str, Any]) -> list[str]:
        return [str(self.insist(lambda: self.client.submit_job({"spec": spec}, spec["name"]))["id"])]

    def insist(self, call: Callable[[], Any]) -> Any:
        """Call until it is answered, starting again what has died."""

        def attempt() -> Any:
            self.cluster.revive()
            try:
                return call()
            except CommandError:
                return None

        return wait_for(attempt, "the API to answer")

    # --- one way to come to each place ---

    def prepare(self) -> list[str]:
        return self.submit(prepare(self.name()))

    def train(self, steps: int = 40) -> list[str]:
        return self.submit({**TRAINING, "name": self.name(), "steps": steps, "save_every": 20})

    def submit_without_broker(self) -> list[str]:
        self.cluster.broker.kill()
        try:
            return self.prepare()
        finally:
            self.cluster.broker.start()

    def lose_a_machine(self) -> list[str]:
        ids = self.train(steps=150)
        runner = wait_for(self.find_runner, "a runner")
        self.cluster.kill("train-1")
        runner.kill()
        return ids

    def find_runner(self) -> psutil.Process | None:
        return next((each[0] for each in self.cluster.attempts().values() if is_runner(each[0])), None)

    def submit_pipeline(self) -> list[str]:
        first, second = prepare(self.name()), prepare(self.name())
        body = {"name": first["name"], "jobs": {"one": {"spec": first}, "two": {"spec": second, "depends_on": ["one"]}}}
        pipeline = self.insist(lambda: self.client.submit_pipeline(body, first["name"]))
        return [job["id"] for job in pipeline["jobs"]]


WAYS: dict[str, Callable[[Proof], list[str]]] = {
    "before_ring": Proof.submit_without_broker,
    "after_ring": Proof.submit_without_broker,
    "checkpoint_after_store_before_record": Proof.train,
    "lease_end_before_ring": Proof.lose_a_machine,
    "pipeline_between_steps": Proof.submit_pipeline,
}


@pytest.fixture(scope="module", params=ACTIONS)
def proof(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proof]:
    """A platform whose processes all die, or all fail, at the places that are armed."""
    folder = tmp_path_factory.mktemp(request.param)
    tokens = folder / "tokens"
    tokens.mkdir()
    for point in POINTS:
        (tokens / point).touch()
    faults = ",".join(f"{point}:{request.param}:{tokens / point}" for point in POINTS)
    cluster = Cluster(folder / "cluster", programs=PROGRAMS, faults=faults)
    cluster.start()
    made = Proof(cluster, tokens)
    (folder / "lines.txt").write_text("\n".join(ROWS))
    made.insist(lambda: made.client.upload_dataset(folder / "lines.txt", "rows"))
    (corpus,) = made.submit(prepare("lines"))
    wait_for(lambda: made.client.get_job(corpus)["state"] == "succeeded", "the dataset")
    yield made
    cluster.stop()


@pytest.mark.slow
@pytest.mark.parametrize("point", [point for point in POINTS if point not in ELSEWHERE])
class TestEveryPoint:
    def test_the_job_still_ends_well(self, proof: Proof, point: str) -> None:
        proof.arm(point)
        ids = WAYS.get(point, Proof.prepare)(proof)
        wait_for(lambda: proof.has_fired(point), f"some process to come to {point}")
        for id_ in ids:
            done = wait_for(lambda id_=id_: self.ended(proof, id_), f"job {id_} to end after {point}")
            assert done["state"] == "succeeded", proof.insist(lambda id_=id_: proof.client.explain_job(id_))
            attempts = proof.insist(lambda id_=id_: proof.client.get(f"/v1/jobs/{id_}/attempts"))["data"]
            assert [each["outcome"] for each in attempts].count("succeeded") == 1
        assert proof.insist(lambda: proof.client.get("/v1/invariants"))["violations"] == []

    def ended(self, proof: Proof, job_id: str) -> Any:
        job = proof.insist(lambda: proof.client.get_job(job_id))
        return job if job["state"] in {"succeeded", "failed", "quarantined", "cancelled"} else None

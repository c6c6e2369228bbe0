"""Room made for important jobs, kept for wide ones, and a worker emptied: with real workers and real training."""

import subprocess
import sys

import pytest

from tests.engine.conftest import CORPUS, TINY, Document, Yard, wait_for

SOON = {"MODELYARD_RESERVE_AFTER_SECONDS": "1", "MODELYARD_PREEMPT_AFTER_SECONDS": "1", "MODELYARD_LEASE_SECONDS": "30"}
"""Nobody dies here, so leases are long: on a busy machine a short one may end by itself."""
NEVER_SAVES = 1_000_000
"""Steps between checkpoints: those that are there were made to leave."""
LONG_SECONDS = 240.0
"""How long two workers may take to start something at the same moment on a busy machine."""
LONG = 40_000
"""Steps of a training that is still at it when others come, however fast the machine is, and would not end by itself within the
time a displaced one may take to save; every twentieth is reported."""

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("yard", [SOON], indirect=True)]


def prepare(yard: Yard) -> None:
    """Have the corpus ready."""
    yard.start_worker("data", "prepare")
    yard.wait_for_state(yard.submit(CORPUS), "succeeded")


def train(yard: Yard, steps: int, **more: object) -> str:
    """Submit a training that saves only when it is told to leave."""
    slow = {"micro_batch_size": 32, "sequence_length": 64}  # so that also a fast machine is still at it when somebody comes
    return yard.submit({**TINY, **slow, "steps": steps, "evaluate_every": steps, "save_every": NEVER_SAVES}, **more)


def steps_of(yard: Yard, job_id: str) -> list[tuple[int, int]]:
    """(attempt, step) of every loss point."""
    points = yard.client.get(f"/v1/jobs/{job_id}/metrics", name="loss", limit=5000)["data"]
    return [(point["attempt"], point["step"]) for point in points]


def outcomes(yard: Yard, job_id: str) -> list[str]:
    return [attempt["outcome"] for attempt in yard.rows(job_id, "attempts")]


def check_no_step_is_lost(yard: Yard, job_id: str, steps: int) -> None:
    """Its second attempt goes on exactly where the first stopped."""
    done = steps_of(yard, job_id)
    resumed = yard.rows(job_id, "attempts")[1]["resumed_from_step"]
    assert resumed == max(step for attempt, step in done if attempt == 1)
    assert sorted(step for _, step in done) == list(range(1, steps + 1)), "every step once"


def check_it_goes_on(yard: Yard, job_id: str) -> None:
    """A training that was displaced goes on after what it saved then."""
    made_room = outcomes(yard, job_id).index("preempted") + 1
    wait_for(lambda: max(steps_of(yard, job_id))[0] > made_room, "it to go on", LONG_SECONDS)
    done = steps_of(yard, job_id)
    (saved,) = [row["step"] for row in yard.rows(job_id, "checkpoints") if row["attempt"] == made_room]
    assert saved >= max(step for attempt, step in done if attempt == made_room)
    went_on = yard.rows(job_id, "attempts")[min(attempt for attempt, _ in done if attempt > made_room) - 1]
    assert went_on["resumed_from_step"] == saved < min(step for attempt, step in done if attempt > made_room)


class TestPreempt:
    def test_a_training_makes_room_and_goes_on_where_it_stopped(self, yard: Yard) -> None:
        prepare(yard)
        yard.start_worker("train", "pretrain", slots=1)
        patient = train(yard, LONG, preemptible=True, priority=50)
        wait_for(lambda: steps_of(yard, patient), "the first training to make progress")
        urgent = train(yard, 10, priority=90)
        yard.wait_for_state(urgent, "succeeded")
        assert outcomes(yard, urgent) == ["succeeded"]
        check_it_goes_on(yard, patient)
        assert self.started(yard, urgent) > self.started(yard, patient, attempt=0)
        yard.client.post(f"/v1/jobs/{patient}/cancel?keep_checkpoint=false")
        yard.wait_for_state(patient, "cancelled")

    def started(self, yard: Yard, job_id: str, attempt: int = -1) -> str:
        return str(yard.rows(job_id, "attempts")[attempt]["started_at"])


class TestPreemptForAGang:
    def test_two_trainings_on_two_workers_make_room_and_go_on_where_they_stopped(self, yard: Yard) -> None:
        prepare(yard)
        for name in ("one", "two"):
            yard.start_worker(name, "pretrain", slots=1)
        patient = [train(yard, LONG, preemptible=True, priority=50) for _ in range(2)]
        wait_for(lambda: all(steps_of(yard, each) for each in patient), "both trainings to make progress")
        urgent = train(yard, 10, priority=90, resources={"nodes": 2, "slots": 1})
        wait_for(lambda: yard.job(urgent)["state"] == "succeeded", "the gang to come to its end", LONG_SECONDS)
        for each in patient:
            check_it_goes_on(yard, each)
            yard.client.post(f"/v1/jobs/{each}/cancel?keep_checkpoint=false")
        for each in patient:
            yard.wait_for_state(each, "cancelled")


class TestReserve:
    def test_a_wide_job_starts_before_small_ones_that_came_later(self, yard: Yard) -> None:
        prepare(yard)
        yard.start_worker("train", "pretrain", slots=2)
        first = [train(yard, steps) for steps in (20, 100_000)]
        wait_for(lambda: all(yard.job(job_id)["state"] == "running" for job_id in first), "both slots to be taken")
        wide = train(yard, 10, resources={"slots": 2})
        later = [train(yard, 10) for _ in range(3)]
        reserved = wait_for(lambda: self.worker(yard)["reserved"], "the reservation")
        assert reserved == {"cpu": 2}
        yard.wait_for_state(first[0], "succeeded")
        yard.client.post(f"/v1/jobs/{first[1]}/cancel")
        yard.wait_for_state(wide, "running", "succeeded")
        started = [yard.job(job_id)["started_at"] for job_id in later]
        assert started == [None] * 3, "one of them took the slot that was free first"
        wait_for(lambda: self.worker(yard)["reserved"] == {}, "the reservation to end")
        for job_id in (wide, *later):
            yard.client.post(f"/v1/jobs/{job_id}/cancel")

    def worker(self, yard: Yard) -> Document:
        workers = yard.client.get("/v1/workers")["data"]
        return next(worker for worker in workers if worker["id"].startswith("train@"))


class TestDrain:
    def test_a_training_goes_on_elsewhere_and_the_worker_takes_jobs_again(self, yard: Yard) -> None:
        prepare(yard)
        worker = yard.start_worker("first", "pretrain", slots=1)
        training = train(yard, 800)
        wait_for(lambda: len(steps_of(yard, training)) > 20, "the training to make progress")
        drained = self.modelyard(yard, "drain", "first", "--wait", "--timeout", "90", "--json")
        assert '"state": "drained"' in drained
        assert outcomes(yard, training) == ["drained"]
        assert yard.job(training)["state"] == "queued", "nobody else is there"
        assert worker.poll() is None, "it stays up"
        yard.start_worker("second", "pretrain", slots=1)
        yard.wait_for_state(training, "succeeded")
        assert [attempt["worker_id"].split("@")[0] for attempt in yard.rows(training, "attempts")] == ["first", "second"]
        check_no_step_is_lost(yard, training, 800)
        self.modelyard(yard, "drain", "second")
        self.modelyard(yard, "undrain", "first")
        again = train(yard, 10)
        yard.wait_for_state(again, "succeeded")
        assert yard.rows(again, "attempts")[0]["worker_id"].startswith("first@")

    def modelyard(self, yard: Yard, *arguments: str) -> str:
        command = [sys.executable, "-m", "modelyard.cli", "worker", *arguments, "--data-dir", str(yard.folder)]
        done = subprocess.run(command, env=yard.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

"""SIGSTOP instead of a kill: who is frozen for longer than two leases has lost its job, and nothing of it goes on."""

import os
import re
import signal
import time

import psutil
import pytest

from tests.engine.conftest import CORPUS, LEASE_SECONDS, TINY, Document, Yard, wait_for

TWO_LEASES_SECONDS = 2 * float(LEASE_SECONDS) + 1
HANG_SECONDS = 8

pytestmark = pytest.mark.slow


def attempt_of(yard: Yard, job_id: str, number: int) -> Document | None:
    """One attempt of a job, once there is one."""
    return next((each for each in yard.rows(job_id, "attempts") if each["seq"] == number), None)


def wait_for_checkpoint(yard: Yard, job_id: str, attempt: int) -> None:
    """Wait until an attempt has saved: it trains."""
    wait_for(lambda: any(each["attempt"] == attempt for each in yard.rows(job_id, "checkpoints")), f"attempt {attempt} to save")


def last_step(yard: Yard, job_id: str) -> int:
    """The newest step that was reported."""
    return int(yard.client.get(f"/v1/jobs/{job_id}/checkpoints")["data"][0]["step"])


def is_alive(process: psutil.Process) -> bool:
    """Whether a process can still do something."""
    try:
        return process.status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return False


def freeze(*processes: "psutil.Process") -> None:
    """Stop processes in their tracks."""
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)


class TestFreeze:
    def test_a_worker_then_a_runner_then_all_ranks(self, yard: Yard) -> None:
        yard.start_worker("data", "prepare")
        yard.wait_for_state(yard.submit(CORPUS), "succeeded")
        yard.environment["MODELYARD_HANG_STEP_SECONDS"] = str(HANG_SECONDS)
        worker = yard.start_worker("train", "pretrain")
        job_id = yard.submit({**TINY, "steps": 1_000_000, "save_every": 25}, resources={"slots": 2})
        wait_for_checkpoint(yard, job_id, 1)

        self.freeze_worker(yard, job_id, psutil.Process(worker.pid))
        self.freeze_runner(yard, job_id)
        wait_for_checkpoint(yard, job_id, 2)
        self.freeze_ranks(yard, job_id)
        wait_for_checkpoint(yard, job_id, 3)
        self.discard(yard, job_id)
        self.run_out_of_time(yard)

    def freeze_worker(self, yard: Yard, job_id: str, worker: psutil.Process) -> None:
        """The runner goes on without it."""
        before, frozen_at = last_step(yard, job_id), time.monotonic()
        freeze(worker)
        try:
            wait_for(lambda: time.monotonic() > frozen_at + TWO_LEASES_SECONDS, "two leases to pass")
            assert yard.job(job_id)["attempt"] == 1
            wait_for(lambda: last_step(yard, job_id) > before, "the training to go on")
        finally:
            os.kill(worker.pid, signal.SIGCONT)

    def freeze_runner(self, yard: Yard, job_id: str) -> None:
        """The kernel ends it, and so its ranks, before anybody else starts the job again."""
        runners, ranks = yard.processes_of(job_id, "workers.runner"), yard.processes_of(job_id, "recipes")
        assert (len(runners), len(ranks)) == (1, 2)
        freeze(*runners)
        wait_for(lambda: attempt_of(yard, job_id, 2), "the second attempt")
        assert not any(is_alive(rank) for rank in ranks), "nothing of the first is left when the second begins"
        first = attempt_of(yard, job_id, 1)
        assert first is not None
        assert first["outcome"] == "runner_lost"

    def freeze_ranks(self, yard: Yard, job_id: str) -> None:
        """The runner keeps the lease, notices, and tries again from the checkpoint."""
        freeze(*yard.processes_of(job_id, "recipes"))
        third = wait_for(lambda: attempt_of(yard, job_id, 3), "the third attempt")
        second = attempt_of(yard, job_id, 2)
        assert second is not None
        assert second["outcome"] == "hang"
        assert "phase step after step" in second["message"]
        wait_for(lambda: (attempt_of(yard, job_id, 3) or third)["resumed_from_step"], "it to go on from the checkpoint")

    def discard(self, yard: Yard, job_id: str) -> None:
        yard.client.cancel_job(job_id, keep_checkpoint=False)
        yard.wait_for_state(job_id, "cancelled")
        wait_for(lambda: yard.rows(job_id, "checkpoints") == [], "the checkpoints to be removed")
        folder = yard.folder / "artifacts" / "checkpoints" / job_id
        assert not folder.exists() or list(folder.iterdir()) == []
        wait_for(lambda: yard.processes_of(job_id) == [], "every process to be gone")

    def run_out_of_time(self, yard: Yard) -> None:
        """It saves before it leaves, and says what is left."""
        endless = {**TINY, "steps": 1_000_000, "save_every": 100_000}
        job_id = yard.submit(endless, resources={"slots": 2}, time_limit_seconds=10)
        failed = yard.wait_for_state(job_id, "failed")
        assert failed["error"]["reason"] == "timeout"
        assert re.search(r"time limit of 10 s over 1 attempt; the checkpoint of step \d+ is kept", failed["error"]["message"])
        assert len(yard.rows(job_id, "checkpoints")) == 1

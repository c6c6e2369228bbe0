"""Gangs over three worker processes of one machine: all or nothing, one life at a time, whoever is killed."""

import os
import select
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime

import psutil
import pytest

from modelyard.workers.engine.processes import read_tag, split_tag
from tests.engine.conftest import CORPUS, TINY, Document, Yard, kill, wait_for

pytestmark = pytest.mark.slow
LONG: Document = {**TINY, "steps": 240, "save_every": 20, "evaluate_every": 240}
WORKERS = ("one", "two", "three")


def begin(yard: Yard, *names: str) -> None:
    """A corpus, and workers with one slot each."""
    yard.start_worker("data", "prepare")
    yard.wait_for_state(yard.submit(CORPUS), "succeeded")
    kill_politely(yard, "data")
    for name in names:
        yard.start_worker(name, "pretrain", slots=1)


def kill_politely(yard: Yard, name: str) -> None:
    worker = yard.workers.pop(name)
    worker.terminate()
    worker.wait(timeout=60)


def rank_of(process: psutil.Process) -> int:
    """With one slot a node, the global rank is the node's."""
    return split_tag(read_tag(process) or "")[2]


@dataclass
class Ends:
    """When processes ended, told by the kernel."""

    at: dict[int, float] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)

    def watch(self, processes: list[psutil.Process]) -> None:
        for process in processes:
            thread = threading.Thread(target=self._wait, args=(process.pid, os.pidfd_open(process.pid)), daemon=True)
            thread.start()
            self.threads.append(thread)

    def last(self) -> float:
        for thread in self.threads:
            thread.join(timeout=60)
        return max(self.at.values())

    def _wait(self, pid: int, descriptor: int) -> None:
        select.select([descriptor], [], [])
        self.at[pid] = time.time()
        os.close(descriptor)


def ranks_of(yard: Yard, job_id: str, attempt: int, count: int = 3) -> list[psutil.Process]:
    """The ranks of an attempt once all are there; one that ends while we look has no tag any more."""

    def look() -> list[psutil.Process] | None:
        tags = {each: read_tag(each) for each in yard.processes_of(job_id, "recipes")}
        found = [each for each, tag in tags.items() if tag and split_tag(tag)[1] == attempt]
        return found if len(found) == count else None

    return wait_for(look, f"{count} ranks of attempt {attempt}")


def begun(yard: Yard, job_id: str, attempt: int) -> float:
    """When an attempt began, in seconds since the epoch."""
    (found,) = [each for each in yard.rows(job_id, "attempts") if each["seq"] == attempt]
    return datetime.fromisoformat(found["started_at"]).timestamp()


def attempt_of(yard: Yard, job_id: str, number: int) -> Document | None:
    return next((each for each in yard.rows(job_id, "attempts") if each["seq"] == number), None)


def log_of(yard: Yard, job_id: str, attempt: int, rank: int) -> str:
    lines = yard.rows(job_id, "logs")
    return "".join(each["text"] for each in lines if (each["attempt"], each["rank"]) == (attempt, rank))


def checkpoint_of(yard: Yard, job_id: str, attempt: int) -> Document | None:
    return next((each for each in yard.rows(job_id, "checkpoints") if each["attempt"] == attempt), None)


def explained_with(yard: Yard, job_id: str, words: str) -> str | None:
    summary = str(yard.client.get(f"/v1/jobs/{job_id}/explain")["summary"])
    return summary if words in summary else None


def waiting_in_flower(yard: Yard) -> dict[str, int]:
    yard.flower("/api/workers?refresh=true")  # Flower asks workers for their queues when they join, and when told to
    return {queue["name"]: queue["messages"] for queue in yard.flower("/api/queues/length")["active_queues"]}


def started_in_flower(yard: Yard) -> str:
    return " ".join(task["args"] or "" for task in yard.flower("/api/tasks").values() if task["state"] == "STARTED")


class TestLose:
    def test_a_rank_then_a_machine_one_life_at_a_time(self, yard: Yard) -> None:
        begin(yard, *WORKERS)
        job_id = yard.submit(LONG, resources={"nodes": 3, "slots": 1})
        assert yard.job(job_id)["queue"] == "pretrain.3x1slot"

        wait_for(lambda: checkpoint_of(yard, job_id, 1), "a checkpoint of the first attempt")
        first = ranks_of(yard, job_id, 1)
        assert sorted(map(rank_of, first)) == [0, 1, 2]
        ends = Ends()
        ends.watch(first)
        kill(next(each for each in first if rank_of(each) == 1))
        second = ranks_of(yard, job_id, 2)
        # Processes that become ranks may have been forked before, and waited for an order: what counts is when it was given.
        assert ends.last() < begun(yard, job_id, 2), "no new rank before the last old one was gone"

        wait_for(lambda: checkpoint_of(yard, job_id, 2), "a checkpoint of the second attempt")
        second = ranks_of(yard, job_id, 2)
        ends = Ends()
        ends.watch(second)
        victim = next(each for each in second if rank_of(each) == 2)
        runner = next(each for each in yard.processes_of(job_id, "runner") if each.pid == victim.ppid())
        above = {each.pid for each in runner.parents()}
        name = next(name for name, worker in yard.workers.items() if worker.pid in above)
        kill(yard.workers.pop(name), runner)
        yard.start_worker("four", "pretrain", slots=1)
        ranks_of(yard, job_id, 3)
        assert ends.last() < begun(yard, job_id, 3)

        yard.wait_for_state(job_id, "succeeded")
        attempts = yard.rows(job_id, "attempts")
        assert [attempt["outcome"] for attempt in attempts] == ["runner_lost", "node_lost", "succeeded"]
        assert attempts[0]["failing_rank"] == 1
        resumed = [attempt["resumed_from_step"] for attempt in attempts]
        assert resumed[0] is None
        assert 0 < resumed[1] < resumed[2], "each attempt went on from the newest checkpoint"
        assert yard.processes_of(job_id, "recipes") == []


class TestShare:
    def test_two_gangs_that_need_two_of_three_workers_both_finish(self, yard: Yard) -> None:
        begin(yard, *WORKERS)
        short = {**TINY, "steps": 60, "save_every": 60, "evaluate_every": 60}
        jobs = [yard.submit({**short, "name": name}, resources={"nodes": 2, "slots": 1}) for name in ("first", "second")]
        for job_id in jobs:
            yard.wait_for_state(job_id, "succeeded")
            assert [attempt["outcome"] for attempt in yard.rows(job_id, "attempts")] == ["succeeded"]


class TestStall:
    @pytest.mark.parametrize("yard", [{"MODELYARD_HANG_STEP_SECONDS": "15", "MODELYARD_LEASE_SECONDS": "30"}], indirect=True)
    def test_all_nodes_say_where_they_are_and_it_goes_on_from_its_checkpoint(self, yard: Yard) -> None:
        begin(yard, "one", "two")
        job_id = yard.submit({**LONG, "steps": 1_000_000}, resources={"nodes": 2, "slots": 1})
        wait_for(lambda: yard.rows(job_id, "checkpoints"), "the first checkpoint")
        number = yard.job(job_id)["attempt"]
        frozen = next(each for each in ranks_of(yard, job_id, number, count=2) if rank_of(each) == 1)
        frozen.suspend()
        after = wait_for(lambda: attempt_of(yard, job_id, number + 1), "the next attempt")
        hung = attempt_of(yard, job_id, number) or {}
        assert (hung["outcome"], hung["failing_rank"]) == ("hang", 1)
        assert "rank 1 did not answer when asked where it is" in hung["message"]
        assert "most recent call first" in log_of(yard, job_id, number, rank=0)
        assert wait_for(lambda: (attempt_of(yard, job_id, number + 1) or after)["resumed_from_step"], "it to go on")
        yard.client.post(f"/v1/jobs/{job_id}/cancel?keep_checkpoint=false")
        yard.wait_for_state(job_id, "cancelled")


class TestStop:
    def test_cancel_leaves_no_process_on_any(self, yard: Yard) -> None:
        begin(yard, "one", "two")
        job_id = yard.submit({**LONG, "steps": 100_000}, resources={"nodes": 3, "slots": 1})
        explained = wait_for(lambda: explained_with(yard, job_id, "2 have them now"), "two of the workers to be there")
        assert "3 of one@" in explained
        wait_for(lambda: waiting_in_flower(yard).get("pretrain.3x1slot") == 1, "Flower to show the waiting gang")

        yard.start_worker("three", "pretrain", slots=1)
        wait_for(lambda: yard.rows(job_id, "metrics"), "the first training step")
        wait_for(lambda: job_id in started_in_flower(yard), "Flower to show the running gang")
        assert yard.redis.llen("pretrain.3x1slot") == 0
        assert {rank_of(each) for each in ranks_of(yard, job_id, 1)} == {0, 1, 2}
        yard.client.post(f"/v1/jobs/{job_id}/cancel")
        yard.wait_for_state(job_id, "cancelled")
        assert yard.rows(job_id, "checkpoints"), "it saved before it left"
        wait_for(lambda: yard.processes_of(job_id) == [], "all runners to be gone")

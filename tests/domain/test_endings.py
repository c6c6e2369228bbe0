"""What `finish` writes about an attempt and hands on to the next one."""

import pytest
from factories import Factory, write
from sqlmodel import Session, select

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.recording import add_checkpoint
from modelyard.domain.jobs.stopping import cancel, pause
from modelyard.domain.jobs.tables import Attempt, Job

MANIFEST = {"sha256": "a" * 64, "bytes": 1}


def lose(factory: Factory, job: Job, outcome: Outcome, save_at: int | None = None) -> Job:
    """One attempt from claim to end."""
    factory.update(job, not_before=0)
    claimed = factory.claimed(job)
    if save_at is not None:
        write(factory.database, add_checkpoint, job.id, claimed.attempt, save_at, f"key-{save_at}", MANIFEST, {}, 1.0)
    write(factory.database, finish, job.id, claimed.attempt, outcome, "the worker went away", failing_rank=3)
    now: Job = factory.get(Job, job.id)
    return now


class TestFinish:
    def test_a_job_that_kills_its_workers_is_quarantined_and_no_other(self, factory: Factory) -> None:
        poison = factory.job()
        states = [lose(factory, poison, Outcome.RUNNER_LOST).state for _ in range(3)]
        assert states == ["queued", "queued", "quarantined"]
        assert "3 times in a row without getting on" in (factory.get(Job, poison.id).message or "")
        other = factory.job()
        assert factory.claimed(other).attempt == 1

    def test_a_newer_checkpoint_begins_the_count_anew(self, factory: Factory) -> None:
        factory.registered()
        job = factory.job("pretrain")
        saves = [None, None, 10, None, 20, None, None]
        assert {lose(factory, job, Outcome.NODE_LOST, save_at).state for save_at in saves} == {"queued"}
        assert lose(factory, job, Outcome.NODE_LOST).state == "quarantined"

    def test_the_second_hang_sends_it_to_another_host(self, factory: Factory) -> None:
        job = factory.job()
        assert lose(factory, job, Outcome.HANG).avoid_hosts == []
        assert lose(factory, job, Outcome.HANG).avoid_hosts == ["host"]
        assert factory.get(Job, job.id).state == "queued"
        assert lose(factory, job, Outcome.HANG).state == "failed"

    def test_the_failing_rank_is_kept(self, factory: Factory) -> None:
        lose(factory, factory.job(), Outcome.NCCL)
        assert factory.find(select(Attempt))[0].failing_rank == 3

    @pytest.mark.parametrize(("wish", "becomes"), [("cancelled", "cancelled"), ("paused", "paused")])
    def test_a_wish_is_the_reason_whatever_its_attempt_came_to_meanwhile(self, factory: Factory, wish: str, becomes: str) -> None:
        factory.registered()
        job = factory.running("pretrain")
        write(factory.database, ask, job, wish)
        write(factory.database, finish, job.id, 1, Outcome.DRAINED, "w takes no jobs any more")
        now = factory.get(Job, job.id)
        assert (now.state, now.reason, now.message) == (becomes, becomes, "w takes no jobs any more")


def ask(session: Session, job: Job, wish: str) -> None:
    """Cancel or pause a job that runs."""
    {"cancelled": cancel, "paused": pause}[wish](session, session.get_one(Job, job.id))

"""Slots kept and room made, in the database: what workers read, what victims are asked, who is claimed first."""

from typing import Any

import pytest
from factories import LEASE_SECONDS, Factory, write
from sqlmodel import select

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import claim, finish, renew
from modelyard.domain.jobs.tables import Attempt, Job, JobEvent
from modelyard.domain.projects.tables import Project
from modelyard.domain.workers.outlook import Kept, read_outlook
from modelyard.domain.workers.repository import get_worker_or_raise, request_drain
from modelyard.domain.workers.reservations import reserve
from modelyard.domain.workers.tables import Reservation
from modelyard.kit.settings import Settings
from modelyard.scheduler.placement import place

LONG_AGO = 1000.0


@pytest.fixture
def eager(settings: Settings) -> Settings:
    """Waits as users are told."""
    return settings.model_copy(update={"reserve_after_seconds": 60.0, "preempt_after_seconds": 30.0})


def waited(factory: Factory, job: Job, seconds: float = LONG_AGO) -> Job:
    """A job as if it had waited for so long."""
    factory.update(job, queued_at=factory.database.now() - seconds)
    return job


def take(factory: Factory, queue: str, *slots: str, worker: str = "train@host") -> Job:
    """Claim the next job of a queue for a worker, with these slots."""
    job: Job | None = write(factory.database, claim, queue, worker, list(slots), LEASE_SECONDS)
    assert job is not None
    return job


def reserved(factory: Factory) -> list[tuple[str, str, int]]:
    """Who has how many slots where."""
    return [(row.job_id, row.worker_id, row.slots) for row in factory.find(select(Reservation))]


def kept_on(factory: Factory, worker: str = "train@host") -> Any:
    """What a worker reads."""
    with factory.database.read() as session:
        return read_outlook(session, worker, worker.partition("@")[2]).kept


class TestReserve:
    def test_until_the_job_is_claimed(self, factory: Factory, eager: Settings) -> None:
        factory.worker(cpu=2)
        factory.registered()
        factory.job("pretrain")
        first = take(factory, "pretrain", "cpu-0")
        wide = factory.job("pretrain", slots=2)
        place(factory.database, eager)
        assert reserved(factory) == [], "it has not waited long"
        waited(factory, wide)
        place(factory.database, eager)
        place(factory.database, eager)
        assert reserved(factory) == [(wide.id, "train@host", 2)]
        assert kept_on(factory) == [Kept(wide.queue, "cpu", 2)]
        write(factory.database, finish, first.id, 1, Outcome.SUCCEEDED)
        assert take(factory, wide.queue, "cpu-0", "cpu-1").id == wide.id
        assert kept_on(factory) == [], "it has its slots"
        place(factory.database, eager)
        assert reserved(factory) == []

    def test_it_lasts_while_it_is_renewed_and_no_longer(self, factory: Factory, eager: Settings) -> None:
        factory.worker(cpu=2)
        factory.registered()
        factory.job("pretrain")
        take(factory, "pretrain", "cpu-0")
        waited(factory, factory.job("pretrain", slots=2))
        place(factory.database, eager)
        now = factory.database.now()
        self.expire(factory, now + 1)
        place(factory.database, eager)
        assert factory.find(select(Reservation))[0].expires_at > now + 20
        self.expire(factory, now - 1)
        assert kept_on(factory) == [], "the scheduler is gone"

    @pytest.mark.parametrize("how", ["drained", "offline"])
    def test_it_moves_when_its_worker_goes(self, factory: Factory, eager: Settings, how: str) -> None:
        factory.registered()
        factory.worker("a@one", cpu=2)
        factory.job("pretrain")
        take(factory, "pretrain", "cpu-0", worker="a@one")
        wide = waited(factory, factory.job("pretrain", slots=2))
        place(factory.database, eager)
        assert reserved(factory) == [(wide.id, "a@one", 2)]
        factory.worker("b@two", cpu=2)
        factory.job("pretrain")
        take(factory, "pretrain", "cpu-0", worker="b@two")
        place(factory.database, eager)
        assert reserved(factory) == [(wide.id, "a@one", 2)], "it stays where it is"
        with factory.database.write() as session:
            worker = get_worker_or_raise(session, "a@one")
            request_drain(session, worker) if how == "drained" else worker.sqlmodel_update({"state": "offline"})
        place(factory.database, eager)
        assert reserved(factory) == [(wide.id, "b@two", 2)]

    def test_workers_of_one_machine_share_its_gpus_and_what_is_kept_of_them(self, factory: Factory, eager: Settings) -> None:
        factory.worker("a@box", cpu=0, gpus=(0, 1))
        factory.worker("b@box", cpu=1, gpus=(1, 2))
        factory.worker("c@box", cpu=1, gpus=(3,))
        factory.registered()
        factory.job("pretrain")
        take(factory, "pretrain", "gpu-1", worker="b@box")
        wide = waited(factory, factory.job("pretrain", slots=2))
        place(factory.database, eager)
        where = [(row.job_id, row.worker_id, row.accelerator) for row in factory.find(select(Reservation))]
        assert where == [(wide.id, "a@box", "gpu")]
        assert kept_on(factory, "a@box") == kept_on(factory, "b@box") == [Kept(wide.queue, "gpu", 2)]
        assert kept_on(factory, "c@box") == []

    def test_only_on_its_own_machine_does_the_job_go_first(self, factory: Factory) -> None:
        factory.registered()
        first, second = factory.job("pretrain"), factory.job("pretrain")
        write(factory.database, reserve, "a@hast", second.id, "cpu", 1)
        assert take(factory, "pretrain", "cpu-0", worker="b@h_st").id == first.id
        assert take(factory, "pretrain", "cpu-0", worker="a@hast").id == second.id

    @staticmethod
    def expire(factory: Factory, at: float) -> None:
        with factory.database.write() as session:
            for row in session.exec(select(Reservation)).all():
                row.expires_at = at


class TestPreempt:
    @pytest.fixture
    def busy(self, factory: Factory) -> list[Job]:
        """A worker whose two slots run preemptible jobs, the second of which has just saved."""
        factory.worker(cpu=2)
        factory.registered()
        jobs = []
        for slot in ("cpu-0", "cpu-1"):
            factory.job("pretrain", preemptible=True)
            jobs.append(take(factory, "pretrain", slot))
        self.work(factory, jobs[0], started_ago=500)
        self.work(factory, jobs[1], started_ago=900, saved_ago=5)
        return jobs

    def test_the_victim_hands_over_and_does_not_come_back_first(self, factory: Factory, eager: Settings, busy: list[Job]) -> None:
        urgent = factory.job("pretrain", priority=90)
        place(factory.database, eager)
        assert self.asked(factory) == [], "it has not waited long"
        factory.update(waited(factory, urgent), order_key=busy[1].order_key + 500)  # as if the victim had waited much longer
        place(factory.database, eager)
        place(factory.database, eager)
        assert self.asked(factory) == [busy[1].id], "the one that loses least, and only one"
        assert reserved(factory) == [(urgent.id, "train@host", 1)]
        assert write(factory.database, renew, busy[1].id, 1, LEASE_SECONDS).stop_requested == "preempted"
        write(factory.database, finish, busy[1].id, 1, Outcome.PREEMPTED)
        assert factory.get(Job, busy[1].id).state == "queued"
        assert take(factory, "pretrain", "cpu-1").id == urgent.id, "although the victim goes before it in the line"
        place(factory.database, eager)
        assert (self.asked(factory), reserved(factory)) == ([busy[1].id], [])

    def test_one_being_cancelled_is_no_victim_and_room_is_coming(
        self, factory: Factory, eager: Settings, busy: list[Job]
    ) -> None:
        waited(factory, factory.job("pretrain", priority=90))
        factory.update(busy[1], state="cancelling", stop_requested="cancelled")
        place(factory.database, eager)
        assert self.asked(factory) == []

    @pytest.mark.parametrize("change", [{"preemptible": False}, {"priority": 81}])
    def test_nobody_who_may_not_be_displaced(
        self, factory: Factory, eager: Settings, busy: list[Job], change: dict[str, Any]
    ) -> None:
        for job in busy:
            factory.update(job, **change)
        waited(factory, factory.job("pretrain", priority=90))
        place(factory.database, eager)
        assert (self.asked(factory), reserved(factory)) == ([], [])

    def test_a_job_about_to_end_is_waited_for(self, factory: Factory, eager: Settings, busy: list[Job]) -> None:
        waited(factory, factory.job("pretrain", priority=90))
        factory.update(busy[0], progress=0.95)  # 500 s for 95 %: 26 s left
        place(factory.database, eager)
        assert self.asked(factory) == []

    @staticmethod
    def work(factory: Factory, job: Job, started_ago: float, saved_ago: float | None = None) -> None:
        now = factory.database.now()
        with factory.database.write() as session:
            attempt = session.exec(select(Attempt).where(Attempt.job_id == job.id)).one()
            attempt.started_at = now - started_ago
            attempt.saved_at = None if saved_ago is None else now - saved_ago

    @staticmethod
    def asked(factory: Factory) -> list[str]:
        return [event.job_id for event in factory.find(select(JobEvent).where(JobEvent.type == "asked_to_leave"))]


class TestQuota:
    def test_nothing_is_kept_for_a_job_its_quota_holds_back(self, factory: Factory, eager: Settings) -> None:
        factory.worker(cpu=2)
        factory.registered()
        factory.job("pretrain", preemptible=True)
        take(factory, "pretrain", "cpu-0")
        wide = waited(factory, factory.job("pretrain", slots=2, priority=90))
        place(factory.database, eager)
        assert reserved(factory) == [(wide.id, "train@host", 2)]
        with factory.database.write() as session:
            session.get_one(Project, factory.project_id).max_gpus = 2
        assert write(factory.database, claim, wide.queue, "train@host", ["cpu-0", "cpu-1"], LEASE_SECONDS) is None
        place(factory.database, eager)
        assert reserved(factory) == []

"""Workers' signs of life, and the one leader among several schedulers."""

import threading
from typing import Any

import pytest
from factories import Factory, write
from sqlmodel import select

from modelyard.domain.jobs.ownership import claim
from modelyard.domain.workers import repository
from modelyard.domain.workers.outlook import read_outlook
from modelyard.domain.workers.tables import Host, Leadership, Worker


def sign(name: str = "a", **values: Any) -> Worker:
    """What a worker says of itself; the times are the database's to write."""
    defaults = {"host": "host", "pid": 1, "queues": ["finetune"], "state": "online", "started_at": 0.0, "heartbeat_at": 0.0}
    return Worker(id=name, **{**defaults, **values})


class TestReport:
    def test_writes_the_databases_time(self, factory: Factory) -> None:
        before = factory.database.now()
        write(factory.database, repository.report_worker, sign())
        first = factory.get(Worker, "a")
        assert before <= first.started_at <= first.heartbeat_at <= factory.database.now()
        write(factory.database, repository.report_worker, sign(state="draining", slots={"cpu": {"total": 1}}))
        second = factory.get(Worker, "a")
        assert (second.state, second.slots, second.started_at) == ("draining", {"cpu": {"total": 1}}, first.started_at)
        assert second.heartbeat_at > first.heartbeat_at
        write(factory.database, repository.report_worker, sign(pid=2), is_start=True)
        third = factory.get(Worker, "a")
        assert (third.state, third.pid) == ("online", 2)
        assert third.started_at > second.heartbeat_at

    def test_leaves_alone_what_others_decide(self, factory: Factory) -> None:
        factory.worker("a", drain_requested=True)
        write(factory.database, repository.report_worker, sign())
        write(factory.database, repository.report_worker, sign(), is_start=True)
        assert factory.get(Worker, "a").drain_requested is True

    def test_one_that_was_forgotten_comes_back(self, factory: Factory) -> None:
        factory.worker("a", silent_seconds=repository.FORGOTTEN_SECONDS + 1, state="offline")
        assert write(factory.database, repository.forget_workers) == 1
        write(factory.database, repository.report_worker, sign())
        assert factory.get(Worker, "a").state == "online"


class TestSilence:
    def test_the_silent_are_offline(self, factory: Factory) -> None:
        factory.worker("heard")
        factory.worker("silent", silent_seconds=repository.SILENT_SECONDS + 5)
        with factory.database.read() as session:
            assert [row.id for row in repository.list_online(session)] == ["heard"]
        assert write(factory.database, repository.mark_silent_offline) == 1
        assert factory.get(Worker, "silent").state == "offline"
        assert write(factory.database, repository.mark_silent_offline) == 0

    def test_only_the_long_offline_are_forgotten(self, factory: Factory) -> None:
        factory.worker("new", silent_seconds=repository.FORGOTTEN_SECONDS - 60, state="offline")
        factory.worker("old", silent_seconds=repository.FORGOTTEN_SECONDS + 60, state="offline")
        factory.worker("running", silent_seconds=0)
        assert write(factory.database, repository.forget_workers) == 1
        assert [row.id for row in factory.find(select(Worker).order_by(Worker.id))] == ["new", "running"]


class TestClosed:
    @pytest.mark.parametrize("how", ["drained", "excluded"])
    def test_takes_no_job(self, factory: Factory, how: str) -> None:
        factory.worker("train@host", drain_requested=how == "drained")
        until = factory.database.now() + 60 if how == "excluded" else factory.database.now() - 1
        with factory.database.write() as session:
            session.add(Host(name="host", excluded_until=until))
        job = factory.job()
        assert write(factory.database, claim, job.queue, "train@host", ["cpu-0"], 30.0) is None
        with factory.database.read() as session:
            assert repository.list_serving(session) == []
            assert read_outlook(session, "train@host", "host").is_open is False

    def test_takes_jobs_again(self, factory: Factory) -> None:
        worker = factory.worker("train@host", drain_requested=True)
        with factory.database.write() as session:
            repository.end_drain(session, session.get_one(Worker, worker.id))
            session.add(Host(name="host", excluded_until=1.0))
        factory.running()
        with factory.database.read() as session:
            assert [row.id for row in repository.list_serving(session)] == ["train@host"]
            assert read_outlook(session, "train@host", "host").is_open is True


class TestLead:
    def test_one_holder_until_it_leaves(self, factory: Factory) -> None:
        assert self.take(factory, "a")
        assert not self.take(factory, "b")
        assert self.take(factory, "a")
        assert self.leader(factory) == "a"
        write(factory.database, repository.leave_lead, "scheduler", "b")  # not its to give up
        assert not self.take(factory, "b")
        write(factory.database, repository.leave_lead, "scheduler", "a")
        assert self.leader(factory) is None
        assert self.take(factory, "b")

    def test_a_lease_that_ran_out_is_free(self, factory: Factory) -> None:
        assert self.take(factory, "a", seconds=-1)
        assert self.take(factory, "b")
        assert not self.take(factory, "a")

    def test_one_of_many_at_once(self, factory: Factory) -> None:
        taken: list[str] = []

        def try_it(name: str) -> None:
            if self.take(factory, name):
                taken.append(name)

        threads = [threading.Thread(target=try_it, args=(name,)) for name in "abcdefgh"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert taken == [factory.get(Leadership, "scheduler").holder]

    @staticmethod
    def take(factory: Factory, holder: str, seconds: float = 60) -> bool:
        return bool(write(factory.database, repository.take_lead, "scheduler", holder, seconds))

    @staticmethod
    def leader(factory: Factory) -> str | None:
        with factory.database.read() as session:
            return repository.find_leader(session, "scheduler")

"""Gangs as the scheduler places them: all at once when there is room, workers kept free when one waits long, tickets in step."""

import pytest
from factories import Factory, write
from pydantic import SecretStr
from servers import Valkey
from sqlmodel import select

from modelyard.domain.jobs.queues import Shape
from modelyard.domain.jobs.submission import JobRequest, submit
from modelyard.domain.jobs.tables import Job, Seat
from modelyard.domain.jobs.tickets import TASK, write_letter
from modelyard.domain.specs import parse_spec
from modelyard.domain.workers.repository import report_worker
from modelyard.domain.workers.tables import Reservation, Worker
from modelyard.kit.broker import Broker
from modelyard.kit.settings import Settings
from modelyard.scheduler.gangs import SurplusTickets, end_unready_gangs, find_surplus, place_gangs


def submit_gang(factory: Factory, nodes: int = 2) -> Job:
    factory.registered("dataset", "corpus")
    spec = parse_spec({"kind": "pretrain", "name": "bard", "dataset": "corpus"})
    job: Job = write(factory.database, submit, factory.project_id, JobRequest(spec, shape=Shape(1, nodes=nodes)))
    return job


def online(factory: Factory, name: str, free: int = 1) -> None:
    slots = {"cpu": {"total": 1, "free": free}, "gpu": {"total": 0, "free": 0}}
    worker = Worker(id=name, host=name, pid=1, stages=["pretrain"], state="online", started_at=0.0, heartbeat_at=0.0)
    worker.slots = slots
    write(factory.database, report_worker, worker)


class TestPlace:
    def test_all_at_once_when_the_last_worker_is_there(self, factory: Factory, settings: Settings) -> None:
        job = submit_gang(factory)
        online(factory, "a")
        place_gangs(factory.database, settings)
        assert factory.get(Job, job.id).state == "queued"
        assert factory.find(select(Seat)) == []
        online(factory, "b")
        place_gangs(factory.database, settings)
        assert factory.get(Job, job.id).state == "running"
        assert {seat.worker_id for seat in factory.find(select(Seat))} == {"a", "b"}

    def test_two_gangs_never_hold_half_each(self, factory: Factory, settings: Settings) -> None:
        first, second = submit_gang(factory), submit_gang(factory)
        for name in "abc":
            online(factory, name)
        for _ in range(3):
            place_gangs(factory.database, settings)
        assert factory.get(Job, first.id).state == "running"
        assert factory.get(Job, second.id).state == "queued"
        assert {seat.job_id for seat in factory.find(select(Seat))} == {first.id}

    def test_workers_are_kept_free_for_one_that_waited_long(self, factory: Factory, settings: Settings) -> None:
        job = submit_gang(factory)
        online(factory, "a", free=0)
        online(factory, "b")
        place_gangs(factory.database, settings)
        assert factory.find(select(Reservation)) == []
        factory.update(job, queued_at=factory.database.now() - settings.gang_reserve_seconds - 1)
        place_gangs(factory.database, settings)
        kept = factory.find(select(Reservation))
        assert {(row.worker_id, row.job_id, row.slots, row.accelerator) for row in kept} == {
            ("a", job.id, 1, "cpu"),
            ("b", job.id, 1, "cpu"),
        }
        factory.update(job, state="cancelled")
        place_gangs(factory.database, settings)
        online(factory, "a")
        place_gangs(factory.database, settings)
        assert factory.find(select(Seat)) == []

    def test_a_worker_that_does_not_begin_holds_nobody_up(self, factory: Factory, settings: Settings) -> None:
        job = submit_gang(factory)
        for name in "ab":
            online(factory, name)
        place_gangs(factory.database, settings)
        end_unready_gangs(factory.database, settings)
        assert factory.get(Job, job.id).state == "running"
        end_unready_gangs(factory.database, settings.model_copy(update={"gang_ready_seconds": -1.0}))
        after = factory.get(Job, job.id)
        assert (after.state, after.reason) == ("queued", "preempted")


class TestSurplusTickets:
    @pytest.mark.parametrize(
        ("waiting", "tickets", "surplus"),
        [
            ({}, {"pretrain.2x1slot": 1}, {"pretrain.2x1slot": 1}),
            ({"pretrain.2x1slot": 1}, {"pretrain.2x1slot": 1}, {}),
            ({"pretrain.2x1slot": 2}, {"pretrain.2x1slot": 1}, {}),
            ({}, {"pretrain.2slot": 1, "somebody.elses.2x4": 1}, {}),
        ],
    )
    def test_table(self, waiting: dict[str, int], tickets: dict[str, int], surplus: dict[str, int]) -> None:
        assert find_surplus(waiting, tickets) == surplus

    def test_dropped_at_the_second_look(self, factory: Factory, settings: Settings, valkey: Valkey) -> None:
        broker = Broker(settings.model_copy(update={"redis_url": SecretStr(valkey.url)}))
        job = submit_gang(factory)
        broker.send(TASK, [write_letter(job.queue, job.id, 1)] * 3 + [write_letter("pretrain", job.id, 1)])
        surplus = SurplusTickets(factory.database, broker)
        surplus.tick()
        assert broker.count_tickets([job.queue]) == {job.queue: 3}
        surplus.tick()
        assert broker.count_tickets([job.queue, "pretrain"]) == {job.queue: 1, "pretrain": 1}

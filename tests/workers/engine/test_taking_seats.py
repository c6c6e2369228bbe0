"""Seats on a worker: taken when reserved, given back when their slots are gone, left when the attempt is over."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from factories import LEASE_SECONDS, Factory, write
from sqlmodel import select

from modelyard.domain.jobs.gangs import claim_gang
from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.queues import Shape
from modelyard.domain.jobs.submission import JobRequest, submit
from modelyard.domain.jobs.tables import Job, Seat
from modelyard.domain.scheduling.gangs import Placement
from modelyard.domain.specs import parse_spec
from modelyard.kit.queue import make_app
from modelyard.kit.settings import Settings
from modelyard.kit.slots import SlotPool
from modelyard.workers.engine import attempts, seats
from modelyard.workers.engine.attempts import Engine
from modelyard.workers.engine.capacity import Capacity
from modelyard.workers.engine.seats import SeatTaker
from modelyard.workers.engine.tickets import GangTickets

SLEEPER = [sys.executable, "-c", "import signal; signal.sigwait({signal.SIGTERM, signal.SIGINT})"]


@pytest.fixture
def taker(factory: Factory, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> SeatTaker:
    """A worker with one slot whose runners are processes that wait to be told to leave."""
    monkeypatch.setattr(attempts, "start_runner", lambda *_: subprocess.Popen(SLEEPER))
    monkeypatch.setattr(seats, "TAKE_SECONDS", 0.1)
    engine = Engine(settings, factory.database, Capacity(SlotPool(tmp_path / "slots", "w2", cpu_slots=1)), "w2@y")
    return SeatTaker(engine, GangTickets(make_app(settings), engine, ["pretrain"]))


@pytest.fixture
def job(factory: Factory) -> Job:
    """A gang that was given this worker as its second node."""
    factory.registered("dataset", "corpus")
    spec = parse_spec({"kind": "pretrain", "name": "bard", "dataset": "corpus"})
    made: Job = write(factory.database, submit, factory.project_id, JobRequest(spec, shape=Shape(1, nodes=2)))
    claimed: Job = write(factory.database, claim_gang, Placement(made.id, "cpu", ("w1@x", "w2@y")), 60.0, LEASE_SECONDS, 0.0)
    return claimed


def seat_of(factory: Factory) -> Any:
    (seat,) = factory.find(select(Seat).where(Seat.node_rank == 1))
    return seat


def finish_all(taker: SeatTaker) -> None:
    for thread in list(taker._sitting.values()):
        thread.join(timeout=30)
        assert not thread.is_alive()


class TestLook:
    def test_takes_its_seat_and_says_how_its_runner_ended(self, taker: SeatTaker, factory: Factory, job: Job) -> None:
        taker.look()
        while not taker.engine.runners:
            assert seat_of(factory).state != "left"
        taken = seat_of(factory)
        assert (taken.state, taken.slots) == ("running", ["cpu-0"])
        assert taken.lease_expires_at is not None
        (runner,) = taker.engine.runners.values()
        runner.terminate()
        finish_all(taker)
        left = seat_of(factory)
        assert (left.state, left.outcome) == ("left", "runner_lost")
        assert str(-signal.SIGTERM) in left.message
        assert factory.get(Job, job.id).state == "running", "node 0 decides what becomes of the attempt"

    def test_gives_back_a_seat_whose_slots_are_gone(self, taker: SeatTaker, factory: Factory, job: Job) -> None:
        held = taker.engine.capacity.pool.take(1, "cpu")
        assert held is not None
        taker.look()
        finish_all(taker)
        held.release()
        after = factory.get(Job, job.id)
        assert (after.state, after.reason) == ("queued", "preempted")
        assert "w2@y has no free slots any more; node 1 cannot begin" in after.message
        assert seat_of(factory).state == "left"

    def test_gives_back_a_seat_when_it_is_drained(self, taker: SeatTaker, factory: Factory, job: Job) -> None:
        taker.engine.drain()
        taker.look()
        finish_all(taker)
        assert (factory.get(Job, job.id).state, factory.get(Job, job.id).reason) == ("queued", "drained")

    def test_leaves_a_seat_of_an_attempt_that_is_over(self, taker: SeatTaker, factory: Factory, job: Job) -> None:
        write(factory.database, finish, job.id, 1, Outcome.PREEMPTED)
        taker.look()
        finish_all(taker)
        assert (seat_of(factory).state, seat_of(factory).outcome) == ("left", None)
        assert taker.engine.runners == {}


class TestTickets:
    def test_only_for_gangs_led_here_and_one_each(self, taker: SeatTaker, job: Job) -> None:
        tickets = taker.tickets
        assert not tickets.wants(job.queue)
        assert tickets.answer(job.queue, "stray", lambda _: None), "a ticket nobody needs is dropped"
        with tickets.lead(job):
            assert tickets.wants(job.queue)
            assert not tickets.wants("pretrain.9x1slot")
        assert not tickets.wants(job.queue)

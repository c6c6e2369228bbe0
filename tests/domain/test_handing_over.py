"""Asking attempts to leave: once, only the attempt that was meant, and never against another wish."""

from typing import Any

import pytest
from factories import LEASE_SECONDS, Factory, write

from modelyard.domain.jobs.gangs import claim_gang
from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.queues import Shape
from modelyard.domain.jobs.submission import JobRequest, submit
from modelyard.domain.jobs.tables import Job
from modelyard.domain.scheduling.gangs import Placement
from modelyard.domain.specs import parse_spec
from modelyard.domain.workers.handing_over import ask_to_leave, list_busy, list_to_hand_over
from modelyard.domain.workers.tables import Worker


def ask(factory: Factory, job: Job, attempt: int = 1) -> bool:
    """Ask an attempt to make room."""
    return bool(write(factory.database, ask_to_leave, job.id, attempt, Outcome.PREEMPTED, {}))


class TestAsk:
    def test_once(self, factory: Factory) -> None:
        job = factory.running()
        assert [ask(factory, job), ask(factory, job)] == [True, False]

    @pytest.mark.parametrize(
        "meanwhile",
        [
            pytest.param({"stop_requested": "drained"}, id="asked by another"),
            pytest.param({"state": "pausing", "stop_requested": "paused"}, id="being paused"),
            pytest.param({"state": "queued", "stop_requested": None}, id="it left"),
            pytest.param({"attempt": 2}, id="a later attempt runs"),
        ],
    )
    def test_not_against_what_happened_meanwhile(self, factory: Factory, meanwhile: dict[str, Any]) -> None:
        job = factory.running()
        factory.update(job, **meanwhile)
        assert ask(factory, job) is False
        assert factory.get(Job, job.id).stop_requested == meanwhile.get("stop_requested")


class TestDrained:
    def test_a_gang_with_one_seat_there_leaves_as_a_whole(self, factory: Factory) -> None:
        factory.worker("a@one")
        factory.worker("b@two", drain_requested=True)
        factory.worker("c@three", drain_requested=True)
        job = self.gang(factory, "a@one", "b@two")
        with factory.database.read() as session:
            assert [each.id for each in list_to_hand_over(session)] == [job.id]
            assert list_busy(session) == {"a@one", "b@two"}
        with factory.database.write() as session:
            session.get_one(Worker, "b@two").drain_requested = False
        with factory.database.read() as session:
            assert list_to_hand_over(session) == []

    def gang(self, factory: Factory, *workers: str) -> Job:
        factory.registered()
        spec = parse_spec({"kind": "pretrain", "name": "bard", "dataset": "corpus"})
        job = write(factory.database, submit, factory.project_id, JobRequest(spec, shape=Shape(1, nodes=2)))
        placement = Placement(job.id, "cpu", workers)
        claimed: Job = write(factory.database, claim_gang, placement, 60.0, LEASE_SECONDS, 7.5)
        return claimed

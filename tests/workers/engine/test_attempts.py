"""Answering tickets: a drained worker claims nothing, forgets no runner, and needs no broker to go on."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from factories import Factory

from modelyard.domain.jobs.tables import Job
from modelyard.kit.settings import Settings
from modelyard.kit.slots import SlotPool
from modelyard.workers.engine import attempts
from modelyard.workers.engine.attempts import Engine
from modelyard.workers.engine.capacity import Capacity

SLEEPER = [sys.executable, "-c", "import signal; signal.sigwait({signal.SIGTERM, signal.SIGINT})"]


@pytest.fixture
def engine(factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine whose runners are processes that wait to be told to leave."""
    monkeypatch.setattr(attempts, "start_runner", lambda *_: subprocess.Popen(SLEEPER))
    pool = SlotPool(tmp_path / "slots", "data", cpu_slots=1)
    return Engine(Settings(data_dir=tmp_path), factory.database, Capacity(pool), "data@host")


class TestDrain:
    def test_a_drained_worker_claims_nothing(self, engine: Engine, factory: Factory) -> None:
        job = factory.job()
        engine.drain()
        assert engine.answer(job.queue, "ticket", lambda _: None) is False
        assert factory.get(Job, job.id).state == "queued"

    def test_a_runner_started_a_moment_before_is_told_too(self, engine: Engine, factory: Factory) -> None:
        job = factory.job()
        # Draining while Flower is told: the runner has been started, nobody waits for it yet.
        assert engine.answer(job.queue, "ticket", lambda _: engine.drain()) is True
        assert engine.runners == {}
        after = factory.get(Job, job.id)
        assert (after.state, after.reason) == ("queued", "runner_lost")
        assert str(-signal.SIGTERM) in (after.message or "")


class TestTell:
    def test_a_broker_that_went_away_does_not_orphan_the_runner(self, engine: Engine, factory: Factory) -> None:
        job = factory.job()

        def tell(_: Job) -> None:
            for runner in engine.runners.values():
                runner.terminate()
            raise ConnectionError("Redis went away")

        assert engine.answer(job.queue, "ticket", tell) is True
        assert engine.runners == {}
        assert factory.get(Job, job.id).reason == "runner_lost"


class TestStart:
    def test_a_machine_that_cannot_start_a_runner_says_so_at_once(
        self, engine: Engine, factory: Factory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(attempts, "start_runner", refuse)
        job = factory.job()
        assert engine.answer(job.queue, "ticket", lambda _: None) is True
        after = factory.get(Job, job.id)
        assert after.state == "queued"
        assert "No space left" in (after.message or "")
        assert engine.capacity.pool.fits(1, "cpu"), "the slot is free again"

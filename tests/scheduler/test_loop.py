"""The scheduler's loop: chores when they are due, one leader, gone when told."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from factories import Factory
from redis.exceptions import ConnectionError as BrokerAway
from sqlalchemy.exc import OperationalError

from modelyard.domain.jobs.tables import Job
from modelyard.domain.workers.tables import Leadership
from modelyard.kit.settings import Settings
from modelyard.scheduler.loop import Chore, do_due, make_chores

START = "from modelyard.scheduler.loop import main; raise SystemExit(main())"


class TestDoDue:
    @pytest.mark.parametrize("error", [OperationalError("select", {}, OSError()), BrokerAway("gone"), OSError(), KeyError("bug")])
    def test_one_that_raises_does_not_stop_the_others(self, error: Exception) -> None:
        done: list[str] = []

        def fail() -> None:
            done.append("failed")
            raise error

        chores = [
            Chore("first", 1.0, lambda: done.append("first")),
            Chore("bad", 1.0, fail),
            Chore("last", 5.0, lambda: done.append("last")),
        ]
        do_due(chores, 10.0)
        assert done == ["first", "failed", "last"]
        do_due(chores, 10.9)
        assert len(done) == 3
        do_due(chores, 11.0)
        assert done[3:] == ["first", "failed"]

    @pytest.mark.parametrize(
        ("may_rest", "is_at_rest", "seconds", "expected"),
        [
            (True, False, 1.0, True),
            (True, False, 0.9, False),
            (True, True, 9.9, False),
            (True, True, 10.0, True),
            (False, True, 1.0, True),
        ],
    )
    def test_what_finds_nothing_to_do_rests(self, may_rest: bool, is_at_rest: bool, seconds: float, expected: bool) -> None:
        chore = Chore("any", 1.0, lambda: None, may_rest)
        assert chore.is_due(100.0, is_at_rest), "the first time"
        chore.done_at = 100.0
        assert chore.is_due(100.0 + seconds, is_at_rest) is expected

    def test_a_job_wakes_a_chore_that_rested(self) -> None:
        done: list[int] = []
        chores = [Chore("any", 1.0, lambda: done.append(1), may_rest=True)]
        do_due(chores, 100.0, is_at_rest=True)
        do_due(chores, 102.0, is_at_rest=True)
        assert len(done) == 1
        do_due(chores, 103.0, is_at_rest=False)
        assert len(done) == 2

    def test_every_chore_of_the_scheduler_runs(self, factory: Factory, settings: Settings) -> None:
        chores = {chore.name: chore for chore in make_chores(settings, factory.database)}
        lost = factory.running()
        factory.update(lost, lease_expires_at=1.0)
        for name, chore in chores.items():
            if name in {"ring again", "drop surplus tickets"}:
                with pytest.raises((BrokerAway, OSError)):
                    chore.do()
            else:
                chore.do()
        assert factory.get(Job, lost.id).state == "queued"
        assert chores["forget old requests"].every_seconds == 3600


class TestMain:
    def test_leads_repairs_and_leaves(self, sqlite_url: str, settings: Settings, tmp_path: Path) -> None:
        from modelyard.kit.database import Database

        factory = Factory(Database(sqlite_url))
        lost = factory.running()
        factory.update(lost, lease_expires_at=1.0)
        environment = {
            **os.environ,
            "MODELYARD_DATABASE_URL": sqlite_url,
            "MODELYARD_DATA_DIR": str(settings.data_dir),
            "MODELYARD_REDIS_URL": settings.redis_url.get_secret_value(),
            "MODELYARD_SCHEDULER_INTERVAL_SECONDS": "0.05",
        }
        with subprocess.Popen(
            [sys.executable, "-c", START], env=environment, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        ) as process:
            assert process.stderr is not None
            lines = []
            for line in process.stderr:  # ends if it does
                lines.append(line)
                if "lease ended" in line:
                    break
            assert factory.get(Job, lost.id).state == "queued", lines
            assert factory.get(Leadership, "scheduler").holder.endswith(f":{process.pid}")
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
            assert process.returncode == 0
        assert factory.get(Leadership, "scheduler").expires_at == 0.0

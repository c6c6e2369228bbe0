"""Warm parents: what they fork is like what would have been started, and nothing hangs on their lives."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from factories import Factory

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.tables import Job
from modelyard.kit.settings import Settings
from modelyard.kit.slots import SlotPool
from modelyard.workers.engine import nursery as nurseries
from modelyard.workers.engine import parent_keeper
from modelyard.workers.engine.attempts import Engine
from modelyard.workers.engine.capacity import Capacity
from modelyard.workers.engine.handover import Handover
from modelyard.workers.engine.nursery import Nursery
from modelyard.workers.engine.orders import Plan
from modelyard.workers.engine.parent_keeper import ParentKeeper
from modelyard.workers.engine.processes import EXIT_ALREADY_RUNNING, find_tagged, kill_tagged, run_folder, start_runner, tag_of
from modelyard.workers.engine.warm_parent import NotForkable, check_forkable
from modelyard.workers.engine.warm_runner import EXIT_UNKNOWN, WarmRunner
from modelyard.workers.runner.deadline import boot_time
from modelyard.workers.runner.main import AlreadyRunning, hold

PASSWORD = "secret-of-the-store"


def until(what: Callable[[], Any], why: str, seconds: float = 60.0) -> Any:
    """The first truthy answer."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain: {why}")
        time.sleep(0.01)
    return answer


def is_alive(pid: int) -> bool:
    """Whether a process runs: a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class Cot:
    """A job claimed by a worker with a light parent, and its run folder."""

    settings: Settings
    nursery: Nursery
    factory: Factory
    pool: SlotPool
    job: Job

    @property
    def folder(self) -> Path:
        return run_folder(self.settings, self.job.id, self.job.attempt)

    @property
    def parent(self) -> psutil.Process:
        process = self.nursery.keepers()[-1].process
        assert process is not None
        return psutil.Process(process.pid)

    @property
    def spare(self) -> psutil.Process:
        """The runner the parent forked ahead, once there is one."""
        process: psutil.Process = until(lambda: next(iter(self.parent.children()), None), "a spare")
        return process

    def start(self, handover: Handover | None = None) -> WarmRunner:
        """Fork the runner; its slots are its own from now on."""
        held = self.pool.take(2, "cpu")
        assert held is not None
        runner = self.nursery.start_runner(self.job, held, handover=handover)
        held.release()
        assert runner is not None
        return runner

    def seen(self, rank: int = 0) -> dict[str, Any]:
        """What a rank said."""
        path = self.folder / f"seen-{rank}.json"
        until(path.exists, f"rank {rank} to speak: {self.log()}")
        return dict(json.loads(path.read_text()))

    def log(self) -> str:
        return "\n".join(path.read_text() for path in self.folder.glob("*.log"))

    def ranks(self) -> list[int]:
        return [self.seen(rank)["pid"] for rank in range(2)]

    def after(self) -> Job:
        return self.factory.get(Job, self.job.id)


@pytest.fixture
def cot(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cot]:
    """The claimed job's recipe is the one to watch, on two slots."""
    from modelyard.kit.database import Database

    monkeypatch.setenv("MODELYARD_DATABASE_URL", sqlite_url)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PASSWORD)
    monkeypatch.setenv("PYTHONPATH", f"{os.environ.get('PYTHONPATH', '')}:{Path(__file__).parent}")
    monkeypatch.setitem(nurseries.RECIPES, "prepare", "recipes_to_watch")
    settings = Settings(_env_file=None, data_dir=tmp_path / "data", database_url=sqlite_url, warm_parents="always")
    nursery = Nursery(settings, ["prepare"], has_gpus=False)
    nursery.start()
    assert nursery.keepers()[-1].is_ready.wait(60)
    database = Database(sqlite_url)
    factory = Factory(database)
    made = Cot(settings, nursery, factory, SlotPool(tmp_path / "slots", "data", 2), factory.running("prepare"))
    yield made
    kill_tagged(tag_of(made.job.id, made.job.attempt))
    nursery.stop()
    database.dispose()


class TestBear:
    def test_a_job_to_its_end(self, cot: Cot) -> None:
        runner = cot.start()
        seen = [cot.seen(rank) for rank in range(2)]
        assert runner.poll() is None
        (cot.folder / "end").touch()
        assert runner.wait() == 0, cot.log()
        assert cot.after().state == "succeeded"
        assert "waiting" in (cot.folder / "rank-1.log").read_text()
        assert [each["environment"]["RANK"] for each in seen] == ["0", "1"]
        assert {each["environment"]["WORLD_SIZE"] for each in seen} == {"2"}
        assert seen[0]["arguments"] == ["--run-dir", str(cot.folder)]
        left = [name for each in seen for name in ("pid", "program", "daemon") if is_alive(each[name])]
        assert left == [], "the runner ends its whole tree"

    def test_being_asked_to_leave(self, cot: Cot) -> None:
        runner = cot.start()
        cot.seen(1)
        runner.terminate()
        assert runner.wait() == 0, cot.log()
        assert (cot.after().state, cot.after().reason) == ("queued", "drained")

    def test_a_rank_is_told_no_secret_and_its_runner_all(self, cot: Cot) -> None:
        runner = cot.start()
        environment, parent = cot.seen()["environment"], cot.seen()["parent"]
        assert environment["MODELYARD_ATTEMPT"] == tag_of(cot.job.id, 1)
        assert "MODELYARD_ATTEMPT" not in parent, "it was imported by the parent"
        assert PASSWORD not in {*environment.values(), *parent.values()}
        assert not [
            name for name in {**environment, **parent} if name.startswith(("MODELYARD_DATABASE_URL", "MODELYARD_REDIS_URL"))
        ]
        ranks = cot.ranks()
        for pid in (cot.parent.pid, runner.pid, *ranks):
            shown = Path(f"/proc/{pid}/environ").read_bytes()
            assert PASSWORD.encode() not in shown
            assert b"MODELYARD_DATABASE_URL" not in shown

    def test_slots_are_free_at_the_last_death(self, cot: Cot) -> None:
        runner = cot.start()
        seen = cot.seen()
        ranks = cot.ranks()
        assert cot.pool.count_free()["cpu"]["free"] == 0
        os.kill(runner.pid, signal.SIGKILL)
        until(lambda: not any(map(is_alive, ranks)), "ranks to die with their runner")
        assert runner.wait() == -signal.SIGKILL
        until(lambda: cot.pool.count_free()["cpu"]["free"] == 2, "the slots")
        assert is_alive(cot.parent.pid)
        assert is_alive(seen["program"])
        assert is_alive(seen["daemon"])

    def test_every_process_is_found_and_killed(self, cot: Cot) -> None:
        runner = cot.start()
        seen = [cot.seen(rank) for rank in range(2)]
        tag = tag_of(cot.job.id, 1)
        pids = {runner.pid, *cot.ranks(), *(each[name] for each in seen for name in ("daemon", "program"))}
        assert len(pids) == 7
        found = find_tagged(cot.settings.data_dir)
        missing = pids - {process.pid for process in found.get(tag, [])}
        assert not missing, [(pid, psutil.Process(pid).cmdline(), seen) for pid in missing]
        assert len(found) == 1
        assert len(found[tag]) == 7
        assert find_tagged(cot.settings.data_dir / "other") == {}
        assert kill_tagged(tag) == 7
        assert find_tagged(cot.settings.data_dir) == {}
        assert is_alive(cot.parent.pid)


class TestTellAhead:
    def test_the_recipe_begins_while_the_database_answers_nobody(self, cot: Cot) -> None:
        with cot.factory.database.write() as session:
            session.connection()  # nobody else writes meanwhile: neither a renewal, nor who would find out what to do
            runner = cot.start(Handover(cot.job, {}, boot_time()))
            cot.seen()
        (cot.folder / "end").touch()
        assert runner.wait() == 0, cot.log()
        assert cot.after().state == "succeeded"

    def test_what_was_claimed_too_long_ago_is_asked_again(self, cot: Cot) -> None:
        with cot.factory.database.write() as session:
            finish(session, cot.job.id, 1, Outcome.NODE_LOST)  # as the scheduler does while a worker is frozen
        runner = cot.start(Handover(cot.job, {}, boot_time() - 2 * cot.settings.lease_seconds))
        assert runner.wait() == 0
        assert "no longer owns" in cot.log()
        assert not (cot.folder / "run.json").exists()


class TestSpare:
    def test_it_becomes_the_runner_and_another_takes_its_place(self, cot: Cot) -> None:
        spare = cot.spare
        runner = cot.start()
        assert runner.pid == spare.pid
        assert cot.seen(0)["environment"]["RANK"] == "0"
        until(lambda: len(cot.parent.children()) == 2, "another spare")
        (cot.folder / "end").touch()
        assert runner.wait() == 0, cot.log()

    @pytest.mark.parametrize("harm", [signal.SIGSTOP, signal.SIGKILL])
    def test_one_that_does_not_answer_is_ended_and_gets_nothing(self, cot: Cot, harm: signal.Signals) -> None:
        spare = cot.spare
        spare.send_signal(harm)
        runner = cot.start()
        assert runner.pid != spare.pid
        until(lambda: not is_alive(spare.pid), "the spare to be ended")
        cot.seen(1)

    def test_it_dies_with_its_parent(self, cot: Cot) -> None:
        spare = cot.spare
        rank = until(lambda: next(iter(spare.children()), None), "its rank")
        cot.parent.kill()
        until(lambda: not is_alive(spare.pid) and not is_alive(rank.pid), "both to follow")


class TestLose:
    def test_a_runner_outlives_its_parent(self, cot: Cot) -> None:
        runner = cot.start()
        cot.seen(1)
        parent = cot.parent
        parent.kill()
        until(lambda: not is_alive(parent.pid), "the parent to be gone")
        assert runner.poll() is None
        (cot.folder / "end").touch()
        assert runner.wait() == EXIT_UNKNOWN
        until(lambda: cot.after().state == "succeeded", cot.log())
        assert cot.nursery.keepers()[-1].is_ready.wait(60), "there is a new parent"
        assert cot.parent.pid != parent.pid

    def test_a_frozen_parent_is_ended_and_bears_nobody_later(self, cot: Cot, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parent_keeper, "PATIENCE_SECONDS", 0.3)
        parent = cot.parent
        parent.suspend()
        held = cot.pool.take(2, "cpu")
        assert held is not None
        assert cot.nursery.start_runner(cot.job, held) is None
        until(lambda: not is_alive(parent.pid), "the frozen parent to be ended")
        held.release()
        assert cot.pool.count_free()["cpu"]["free"] == 2
        assert find_tagged(cot.settings.data_dir) == {}

    def test_parents_die_with_their_worker(self, tmp_path: Path) -> None:
        script = (
            "import sys, time; from modelyard.kit.settings import Settings\n"
            "from modelyard.workers.engine.nursery import Nursery\n"
            f"nursery = Nursery(Settings(_env_file=None, data_dir={str(tmp_path)!r}), ['prepare'], False); nursery.start()\n"
            "keeper = nursery.keepers()[-1]; keeper.is_ready.wait(60)\n"
            "sys.stderr.write(f'{keeper.process.pid}\\n'); time.sleep(60)\n"
        )
        worker = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
        assert worker.stderr is not None
        parent = int(worker.stderr.readline())
        assert is_alive(parent)
        worker.kill()
        until(lambda: not is_alive(parent), "the parent to follow its worker")


class TestWait:
    def test_the_first_job_of_a_worker_is_forked_though_it_came_before_the_parent_was_ready(
        self, cot: Cot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parent_keeper, "WARM_UP_SECONDS", 300.0)
        nursery = Nursery(cot.settings, ["prepare"], has_gpus=False)
        light = nursery.keepers()[-1]
        light.tell(Plan({}, ["recipes_to_watch"], []))  # at once: it is in the registry only where it was imported
        engine = Engine(cot.settings, cot.factory.database, Capacity(cot.pool), "new@host", nursery=nursery)
        job = cot.factory.job("prepare")
        runners: list[Any] = []

        def let_it_end(job: Job) -> None:
            runners.extend(engine.runners.values())
            folder = run_folder(cot.settings, job.id, job.attempt)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "end").touch()

        nursery.start()
        try:
            until(lambda: light.process, "the parent to be started")
            assert engine.answer(job.queue, "ticket", let_it_end) is True
        finally:
            nursery.stop()
        assert [type(runner) for runner in runners] == [WarmRunner]
        assert cot.factory.get(Job, job.id).state == "succeeded"

    def test_a_parent_opens_before_it_has_imported_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "waiting_import.py").write_text(
            f"import pathlib, time\nwhile not pathlib.Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.01)"
        )
        monkeypatch.setenv("PYTHONPATH", f"{os.environ.get('PYTHONPATH', '')}:{tmp_path}")
        keeper = ParentKeeper()
        keeper.start()
        try:
            keeper.tell(Plan({}, [], ["waiting_import"]))
            assert keeper.is_open.wait(60)
            assert not keeper.is_ready.is_set()
            (tmp_path / "go").touch()
            assert keeper.is_ready.wait(60)
        finally:
            keeper.stop()


class TestForkSafety:
    def test_a_light_parent_has_one_thread(self, cot: Cot) -> None:
        assert cot.parent.num_threads() == 1
        assert cot.parent.num_fds() < 20

    def test_a_second_thread_is_refused(self) -> None:
        code = (
            "import threading; from modelyard.workers.engine.warm_parent import check_forkable; check_forkable()\n"
            "threading.Thread(target=threading.Event().wait, daemon=True).start(); check_forkable()"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 1
        assert NotForkable.__name__ in done.stderr
        assert check_forkable.__name__ in done.stderr

    @pytest.mark.parametrize("is_first", [True, False])
    def test_a_parent_that_cannot_be_one_is_not_tried_again(
        self, is_first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "threading_import.py").write_text(
            "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
        )
        monkeypatch.setenv("PYTHONPATH", f"{os.environ.get('PYTHONPATH', '')}:{tmp_path}")
        modules = ["threading_import"]
        keeper = ParentKeeper()
        keeper.tell(Plan({}, modules if is_first else [], [] if is_first else modules))
        keeper.start()
        keeper.join(timeout=60)
        assert not keeper.is_alive()
        assert not keeper.is_ready.is_set()


class TestHold:
    def test_one_runner_an_attempt(self, cot: Cot) -> None:
        cot.start()
        cot.seen()
        with pytest.raises(AlreadyRunning) as refused:
            hold(cot.folder)
        assert refused.value.code == EXIT_ALREADY_RUNNING
        held = cot.pool.take(0, "cpu")
        assert held is not None
        second = start_runner(cot.settings, cot.job.id, 1, held)
        assert second.wait(timeout=60) == EXIT_ALREADY_RUNNING
        assert "a process of this attempt is alive" in (cot.folder / "runner.log").read_text()
        assert cot.after().state == "running"

    @pytest.mark.parametrize("is_forked", [True, False])
    def test_the_worker_leaves_the_one_that_lives_in_peace(self, cot: Cot, is_forked: bool) -> None:
        first = cot.start()
        cot.seen()
        engine = Engine(cot.settings, cot.factory.database, Capacity(cot.pool), "worker@host")
        engine.nursery = cot.nursery if is_forked else None
        held = cot.pool.take(0, "cpu")
        assert held is not None
        second = engine.start(cot.job, held)
        assert second is not None
        assert engine.wait(cot.job, second) is None
        assert first.poll() is None
        assert cot.after().state == "running"
        assert all(is_alive(pid) for pid in cot.ranks())


class TestChoose:
    @pytest.mark.parametrize(
        ("stages", "mode", "starts"),
        [(["prepare"], "always", 1), (["finetune"], "after_use", 1), (["finetune"], "always", 2), (["finetune"], "never", 0)],
    )
    def test_parents_started(
        self, stages: list[str], mode: Any, starts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started: list[ParentKeeper] = []
        monkeypatch.setattr(ParentKeeper, "start", lambda keeper: started.append(keeper))  # noqa: PLW0108 - a builtin would not be bound
        Nursery(Settings(_env_file=None, data_dir=tmp_path, warm_parents=mode), stages, has_gpus=False).start()
        assert len(started) == starts

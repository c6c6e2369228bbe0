"""What an attempt that lost its job still has in hand reaches neither the database nor what others have stored."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from factories import Factory, write
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select

from modelyard.domain.jobs.lifecycle import Outcome, StaleAttempt
from modelyard.domain.jobs.ownership import finish, own
from modelyard.domain.jobs.tables import Checkpoint, Job
from modelyard.domain.registry.tables import Model
from modelyard.kit.database import Database
from modelyard.kit.storage import ArtifactStore, verify_manifest
from modelyard.workers.runner.outputs import keep_checkpoint, register_outputs, store_outputs


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")


@pytest.fixture
def attempts(factory: Factory) -> tuple[Job, Job]:
    """A job as its first attempt, now stale, still sees it; and as its second, which owns it."""
    first = factory.running()
    write(factory.database, finish, first.id, 1, Outcome.NODE_LOST)
    return first, factory.claimed(first)


def save(folder: Path, job: Job, step: int) -> tuple[Path, dict[str, Any]]:
    """What an attempt's recipe wrote: its run folder, and the event about it."""
    run = folder / f"run-{job.attempt}"
    path = run / "checkpoints" / f"step-{step}"
    path.mkdir(parents=True)
    (path / "weights").write_text(f"step {step} of attempt {job.attempt}")
    return run, {"step": step, "path": f"checkpoints/step-{step}", "at": 1.0}


def keep(factory: Factory, store: ArtifactStore, folder: Path, job: Job, step: int) -> None:
    run, event = save(folder, job, step)
    keep_checkpoint(factory.database, store, job, run, event)


def stored(store: ArtifactStore) -> list[str]:
    """Every file in the store but manifests."""
    return sorted(path.read_text() for path in Path(store.url).rglob("weights"))


class TestCheckpoints:
    def test_of_a_stale_attempt_are_neither_recorded_nor_left_behind(
        self, factory: Factory, store: ArtifactStore, tmp_path: Path, attempts: tuple[Job, Job]
    ) -> None:
        stale, owner = attempts
        keep(factory, store, tmp_path, owner, 10)
        with pytest.raises(StaleAttempt):
            keep(factory, store, tmp_path, stale, 10)
        (only,) = factory.find(select(Checkpoint))
        assert (only.attempt, only.step) == (2, 10)
        assert stored(store) == ["step 10 of attempt 2"]
        verify_manifest(store.fetch(only.artifact_key))

    def test_recorded_before_the_job_was_lost_stay(self, factory: Factory, store: ArtifactStore, tmp_path: Path) -> None:
        job = factory.running()
        keep(factory, store, tmp_path, job, 10)
        write(factory.database, finish, job.id, 1, Outcome.NODE_LOST)
        factory.claimed(job)
        run, event = save(tmp_path / "again", job, 10)  # its runner never heard that the first time had worked
        with pytest.raises(StaleAttempt):
            keep_checkpoint(factory.database, store, job, run, event)
        assert stored(store) == ["step 10 of attempt 1"]

    def test_old_ones_are_removed_only_after_the_new_one_is_recorded(
        self, factory: Factory, store: ArtifactStore, tmp_path: Path
    ) -> None:
        job = factory.running()
        for step in (10, 20):
            keep(factory, store, tmp_path, job, step)
        run, event = save(tmp_path, job, 30)
        with pytest.raises(OperationalError):
            keep_checkpoint(Uncommitted(factory.database), store, job, run, event)  # type: ignore[arg-type]
        assert [row.step for row in factory.find(select(Checkpoint).order_by(Checkpoint.step))] == [10, 20]
        assert {"step 10 of attempt 1", "step 20 of attempt 1"} <= set(stored(store))
        keep_checkpoint(factory.database, store, job, run, event)
        assert stored(store) == ["step 20 of attempt 1", "step 30 of attempt 1"]


class Uncommitted:
    """A database that goes away at the end of each transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def write(self) -> Iterator[Session]:
        with self._database.write() as session:
            yield session
            raise OperationalError("COMMIT", {}, ConnectionError("the database went away"))


class TestOutputs:
    def test_of_a_stale_attempt_touch_nothing_of_the_owners(
        self, factory: Factory, store: ArtifactStore, tmp_path: Path, attempts: tuple[Job, Job]
    ) -> None:
        stale, owner = attempts
        made = self.store(store, tmp_path, owner)
        with factory.database.write() as session:
            job = own(session, owner.id, 2)
            finish(session, owner.id, 2, Outcome.SUCCEEDED, outputs=register_outputs(session, job, made))
        late = self.store(store, tmp_path, stale)
        with pytest.raises(StaleAttempt), factory.database.write() as session:
            register_outputs(session, own(session, stale.id, 1), late)
        (model,) = factory.find(select(Model))
        assert (store.fetch(model.artifact_key) / "weights").read_text() == "attempt 2"
        verify_manifest(store.fetch(model.artifact_key))

    @staticmethod
    def store(store: ArtifactStore, folder: Path, job: Job) -> Any:
        path = folder / f"run-{job.attempt}" / "outputs" / "model"
        path.mkdir(parents=True)
        (path / "weights").write_text(f"attempt {job.attempt}")
        event = {"name": "model", "output_type": "model", "path": "outputs/model", "metadata": {"name": "base"}}
        return store_outputs(store, job, folder / f"run-{job.attempt}", [event])

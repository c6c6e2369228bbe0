"""Checkpoints over several nodes: usable only with all their parts, laid together for whoever continues."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from factories import Factory
from sqlmodel import select

from modelyard.domain.jobs.parts import checkpoint_key, part_keys
from modelyard.domain.jobs.repository import Resumable
from modelyard.domain.jobs.tables import Checkpoint, Job
from modelyard.kit.storage import ArtifactStore, verify_manifest
from modelyard.workers.runner.inputs import find_resume
from modelyard.workers.runner.outputs import keep_checkpoint, keep_part


@dataclass
class Others:
    """All that keeping a checkpoint asks of the other nodes."""

    is_over: bool = False


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")


@pytest.fixture
def job(factory: Factory) -> Job:
    """A job that runs; for what is stored it matters only that it has two nodes."""
    job = factory.running()
    factory.update(job, nodes=2)
    return factory.get(Job, job.id)  # type: ignore[no-any-return]


def write_part(folder: Path, node_rank: int, step: int = 10) -> dict[str, Any]:
    path = folder / f"node-{node_rank}" / "checkpoints" / f"step-{step}"
    path.mkdir(parents=True)
    (path / f"shard-{node_rank}.pt").write_text(f"shard {node_rank} of step {step}")
    return {"path": f"checkpoints/step-{step}", "step": step, "at": 5.0}


def keep(factory: Factory, store: ArtifactStore, job: Job, folder: Path, others: Others, step: int = 10) -> None:
    event = write_part(folder, 0, step)
    keep_checkpoint(factory.database, store, job, folder / "node-0", event, others)  # type: ignore[arg-type]


class TestKeep:
    def test_recorded_once_every_node_has_stored_its_part(
        self, factory: Factory, store: ArtifactStore, job: Job, tmp_path: Path
    ) -> None:
        keeping = threading.Thread(target=keep, args=(factory, store, job, tmp_path, Others()))
        keeping.start()
        assert factory.find(select(Checkpoint)) == []
        keep_part(store, job, tmp_path / "node-1", 1, write_part(tmp_path, 1))
        keeping.join(timeout=30)
        (made,) = factory.find(select(Checkpoint))
        assert (made.step, made.artifact_key) == (10, checkpoint_key(job.id, 1, 10))
        assert made.bytes == len("shard 0 of step 10") + len("shard 1 of step 10")

    def test_nothing_is_left_of_one_whose_node_was_lost(
        self, factory: Factory, store: ArtifactStore, job: Job, tmp_path: Path
    ) -> None:
        keep(factory, store, job, tmp_path, Others(is_over=True))
        assert factory.find(select(Checkpoint)) == []
        assert not store.exists(checkpoint_key(job.id, 1, 10))

    def test_the_parts_of_old_ones_go_too(self, factory: Factory, store: ArtifactStore, job: Job, tmp_path: Path) -> None:
        for step in (10, 20, 30):
            keep_part(store, job, tmp_path / "node-1", 1, write_part(tmp_path, 1, step))
            keep(factory, store, job, tmp_path, Others(), step)
        kept = {step: [store.exists(key) for key in part_keys(checkpoint_key(job.id, 1, step), 2)] for step in (10, 20, 30)}
        assert kept == {10: [False, False], 20: [True, True], 30: [True, True]}


class TestResume:
    def test_all_parts_in_one_folder_else_an_older_one(
        self, factory: Factory, store: ArtifactStore, job: Job, tmp_path: Path
    ) -> None:
        for step in (10, 20):
            keep_part(store, job, tmp_path / "node-1", 1, write_part(tmp_path, 1, step))
            keep(factory, store, job, tmp_path, Others(), step)
        checkpoints = sorted(factory.find(select(Checkpoint)), key=lambda each: -each.step)
        resumable = [Resumable(each, 2) for each in checkpoints]

        found = find_resume(resumable, store, tmp_path / "resume")
        assert found is not None
        assert (found.step, found.checkpoint_id) == (20, checkpoints[0].id)
        assert (found.path / "shard-0.pt").read_text() == "shard 0 of step 20"
        assert (found.path / "shard-1.pt").read_text() == "shard 1 of step 20"
        assert set(verify_manifest(found.path)["files"]) == {"shard-0.pt", "shard-1.pt"}

        store.delete(part_keys(checkpoints[0].artifact_key, 2)[1])
        found = find_resume(resumable, store, tmp_path / "resume")
        assert found is not None
        assert found.step == 10
        (Path(store.url) / part_keys(checkpoints[1].artifact_key, 2)[1] / "shard-1.pt").write_text("shard 1 of step 99")
        assert find_resume(resumable, store, tmp_path / "resume") is None

"""A job that begins at another job's checkpoint is given that one, whatever number of nodes wrote it, or it fails."""

import json
from pathlib import Path

import pytest
from factories import Factory, request_of, write

from modelyard.domain.jobs.parts import checkpoint_key, part_keys
from modelyard.domain.jobs.recording import add_checkpoint
from modelyard.domain.jobs.submission import submit
from modelyard.domain.jobs.tables import Attempt, Checkpoint, Job
from modelyard.kit.settings import Settings
from modelyard.kit.storage import ArtifactStore
from modelyard.workers.engine.handover import is_simple
from modelyard.workers.runner.inputs import MissingInput
from modelyard.workers.runner.preparation import prepare

NODES = 2
STEP = 40


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")


@pytest.fixture
def checkpoint(factory: Factory, store: ArtifactStore, tmp_path: Path) -> Checkpoint:
    """Of a job on two nodes, each of which stored a part."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("{}")
    store.put(tmp_path / "data", "dataset/corpus-a")
    factory.registered()
    with factory.database.write() as session:
        asked = request_of("pretrain", spec={"micro_batch_size": 2})
        first = submit(session, factory.project_id, asked)
    factory.update(first, nodes=NODES, lease_expires_at=None, attempt=1, state="failed", finished_at=factory.database.now())
    key = checkpoint_key(first.id, 1, STEP)
    for node, part in enumerate(part_keys(key, NODES)):
        (tmp_path / f"node-{node}").mkdir()
        (tmp_path / f"node-{node}" / f"shard-{node}.pt").write_text(f"shard {node}")
        store.put(tmp_path / f"node-{node}", part)
    with factory.database.write() as session:
        row = Checkpoint(id="ckpt_1", job_id=first.id, attempt=1, step=STEP, artifact_key=key, sha256="", bytes=1, created_at=0.0)
        session.add(row)
    return row


@pytest.fixture
def second(factory: Factory, checkpoint: Checkpoint) -> Job:
    """A job on one node that begins there, claimed."""
    with factory.database.write() as session:
        asked = request_of("pretrain", slots=1, spec={"steps": 50, "micro_batch_size": 2}, resume_from=checkpoint.id)
        job = submit(session, factory.project_id, asked)
    return factory.claimed(job)


def test_the_parts_of_all_nodes_of_the_other_job(
    factory: Factory, settings: Settings, store: ArtifactStore, checkpoint: Checkpoint, second: Job, tmp_path: Path
) -> None:
    assert not is_simple(second), "the runner has more to find out than the worker knew"
    (tmp_path / "run").mkdir()
    task = prepare(settings, factory.database, store, tmp_path / "run", second.id, 1)
    assert task.resume is not None
    assert (task.resume.step, task.resume.checkpoint_id) == (STEP, checkpoint.id)
    assert sorted(path.name for path in task.resume.path.glob("shard-*")) == ["shard-0.pt", "shard-1.pt"]
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert told["resume_from"] == str(task.resume.path)
    assert told["options"]["begins_at"] == {"checkpoint": checkpoint.id, "job": checkpoint.job_id, "step": STEP}
    (attempt,) = factory.find(Attempt.__table__.select().where(Attempt.job_id == second.id))
    assert attempt.resumed_from == checkpoint.id


def test_its_own_newer_one_goes_first(
    factory: Factory, settings: Settings, store: ArtifactStore, second: Job, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "shard-0.pt").write_text("own")
    key = checkpoint_key(second.id, 1, 45)
    manifest = store.put(tmp_path / "own", key)
    write(factory.database, add_checkpoint, second.id, 1, 45, key, manifest, {}, 0.0)
    (tmp_path / "run").mkdir()
    task = prepare(settings, factory.database, store, tmp_path / "run", second.id, 1)
    assert task.resume is not None
    assert task.resume.step == 45


def test_never_from_the_start(
    factory: Factory, settings: Settings, store: ArtifactStore, checkpoint: Checkpoint, second: Job, tmp_path: Path
) -> None:
    store.delete(part_keys(checkpoint.artifact_key, NODES)[1])
    (tmp_path / "run").mkdir()
    with pytest.raises(MissingInput, match=f"checkpoint {checkpoint.id} of job {checkpoint.job_id} was removed or is damaged"):
        prepare(settings, factory.database, store, tmp_path / "run", second.id, 1)

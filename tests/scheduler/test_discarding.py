"""Checkpoints of jobs cancelled without keeping them: removed from the store and the database, those of others never."""

from pathlib import Path

from factories import Factory, write
from sqlmodel import select

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.recording import add_checkpoint
from modelyard.domain.jobs.repository import get_job_or_raise
from modelyard.domain.jobs.stopping import cancel
from modelyard.domain.jobs.tables import Checkpoint, Job
from modelyard.kit.storage import ArtifactStore
from modelyard.scheduler.repair import discard_checkpoints


def running_with_checkpoint(factory: Factory, store: ArtifactStore, folder: Path) -> Job:
    """A training job that has saved once."""
    job = factory.running("pretrain")
    (folder / job.id).mkdir()
    (folder / job.id / "weights").write_text(job.id)
    key = f"checkpoints/{job.id}/1-00000005"
    manifest = store.put(folder / job.id, key)
    write(factory.database, add_checkpoint, job.id, 1, 5, key, manifest, {}, 0.0)
    return job


def exists(store: ArtifactStore, job: Job) -> bool:
    return (Path(store.url) / f"checkpoints/{job.id}/1-00000005").exists()


def stop(factory: Factory, job: Job, keep_checkpoint: bool) -> None:
    """Ask a job to stop, as the API does."""
    with factory.database.write() as session:
        cancel(session, get_job_or_raise(session, job.project_id, job.id, for_update=True), keep_checkpoint)


class TestDiscardCheckpoints:
    def test_only_those_not_to_be_kept_and_only_after_the_end(self, factory: Factory, tmp_path: Path) -> None:
        factory.registered()
        store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
        kept, discarded = (running_with_checkpoint(factory, store, tmp_path) for _ in range(2))
        stop(factory, kept, keep_checkpoint=True)
        write(factory.database, finish, kept.id, 1, Outcome.CANCELLED)
        stop(factory, discarded, keep_checkpoint=False)

        discard_checkpoints(factory.database, store)
        assert exists(store, discarded), "it still runs"

        write(factory.database, finish, discarded.id, 1, Outcome.CANCELLED)
        discard_checkpoints(factory.database, store)
        assert (exists(store, kept), exists(store, discarded)) == (True, False)
        assert [row.job_id for row in factory.find(select(Checkpoint))] == [kept.id]
        assert factory.get(Job, discarded.id).stop_requested is None

    def test_goes_on_where_it_was_stopped(self, factory: Factory, tmp_path: Path) -> None:
        factory.registered()
        store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
        job = running_with_checkpoint(factory, store, tmp_path)
        stop(factory, job, keep_checkpoint=False)
        write(factory.database, finish, job.id, 1, Outcome.CANCELLED)
        store.delete(f"checkpoints/{job.id}/1-00000005")  # and then the scheduler was killed
        discard_checkpoints(factory.database, store)
        assert factory.find(select(Checkpoint)) == []

"""Of jobs that have been over for long, the newest checkpoint and the best stay and the others go; nobody else's are touched."""

from pathlib import Path
from typing import Any

import pytest
from factories import Factory, write
from sqlmodel import col, select

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.recording import add_checkpoint
from modelyard.domain.jobs.repository import get_job_or_raise, list_checkpoints
from modelyard.domain.jobs.resubmission import RetryChanges, retry
from modelyard.domain.jobs.retention import Ending, is_long_over, judge_checkpoints
from modelyard.domain.jobs.tables import Checkpoint, Job, JobEvent
from modelyard.kit.storage import ArtifactStore
from modelyard.scheduler.retention import sweep_checkpoints

DAY = 86_400.0
KEEP_DAYS = 14.0


class TestIsLongOver:
    @pytest.mark.parametrize(
        ("endings", "expected"),
        [
            ([("succeeded", 9.0)], True),
            ([("failed", 9.0)], True),
            ([("failed", 10.0)], False),
            ([("paused", None)], False),
            ([("queued", 9.0)], False),
            ([("failed", 1.0), ("succeeded", 9.0)], True),
            ([("failed", 1.0), ("succeeded", 11.0)], False),
            ([("failed", 1.0), ("failed", 2.0), ("running", None)], False),
        ],
    )
    def test_table(self, endings: list[tuple[str, float | None]], expected: bool) -> None:
        assert is_long_over([Ending(*each) for each in endings], 10.0) is expected


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")


def save(
    factory: Factory,
    store: ArtifactStore,
    folder: Path,
    job: Job,
    steps: tuple[int, ...] = (5, 10),
    losses: dict[int, float] | None = None,
) -> None:
    """Checkpoints of a running job, twenty days old."""
    (folder / job.id).mkdir()
    (folder / job.id / "weights").write_text(job.id)
    for step in steps:
        key = f"checkpoints/{job.id}/{step}"
        manifest = store.put(folder / job.id, key)
        long_ago = factory.database.now() - 20 * DAY
        metrics = {"validation_loss": losses[step]} if losses else {}
        write(factory.database, add_checkpoint, job.id, job.attempt, step, key, manifest, metrics, long_ago)


def end(factory: Factory, job: Job, outcome: Outcome, days_ago: float) -> None:
    write(factory.database, finish, job.id, job.attempt, outcome)
    factory.update(job, finished_at=factory.database.now() - days_ago * DAY)


def left(store: ArtifactStore, job: Job) -> list[str]:
    return sorted(path.name for path in (Path(store.url) / "checkpoints" / job.id).glob("*"))


def steps_of(factory: Factory, job: Job) -> list[Any]:
    return factory.find(select(Checkpoint.step).where(Checkpoint.job_id == job.id).order_by(col(Checkpoint.step)))


class TestSweep:
    @pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.BAD_DATA])
    def test_the_newest_stays(self, factory: Factory, store: ArtifactStore, tmp_path: Path, outcome: Outcome) -> None:
        factory.registered()
        old = factory.running("pretrain")
        save(factory, store, tmp_path, old, (5, 10, 15))
        end(factory, old, outcome, 15.0)
        recent = factory.running("pretrain")
        save(factory, store, tmp_path, recent)
        end(factory, recent, outcome, 13.0)
        for _ in range(2):
            sweep_checkpoints(factory.database, store, KEEP_DAYS)
            assert (left(store, old), steps_of(factory, old)) == (["15"], [15])
            assert (left(store, recent), steps_of(factory, recent)) == (["10", "5"], [5, 10])
        events = factory.find(select(JobEvent).where(JobEvent.type == "checkpoints_removed"))
        assert [(each.job_id, each.data["steps"], each.data["kept_step"]) for each in events] == [(old.id, [10, 5], 15)]

    def test_the_best_stays_too(self, factory: Factory, store: ArtifactStore, tmp_path: Path) -> None:
        factory.registered()
        old = factory.running("pretrain")
        save(factory, store, tmp_path, old, (5, 10, 15), {5: 3.0, 10: 1.0, 15: 2.0})
        end(factory, old, Outcome.SUCCEEDED, 15.0)
        for _ in range(2):
            sweep_checkpoints(factory.database, store, KEEP_DAYS)
            assert (left(store, old), steps_of(factory, old)) == (["10", "15"], [10, 15])
        (event,) = factory.find(select(JobEvent).where(JobEvent.type == "checkpoints_removed"))
        assert (event.data["steps"], event.data["kept_steps"]) == ([5], [15, 10])

    def test_all_stay_while_an_open_job_begins_at_one(self, factory: Factory, store: ArtifactStore, tmp_path: Path) -> None:
        factory.registered()
        old = factory.running("pretrain")
        save(factory, store, tmp_path, old)
        end(factory, old, Outcome.SUCCEEDED, 15.0)
        (first,) = factory.find(select(Checkpoint.id).where(Checkpoint.step == 5))
        user = factory.job("pretrain", resume_from=first)
        sweep_checkpoints(factory.database, store, KEEP_DAYS)
        write(factory.database, judge_checkpoints, old.id, factory.database.now())  # one that had listed it before
        with factory.database.read() as session:
            assert [each.step for each in list_checkpoints(session, old.id)] == [10, 5]
        end(factory, factory.claimed(user), Outcome.SUCCEEDED, 1.0)
        sweep_checkpoints(factory.database, store, KEEP_DAYS)
        assert (left(store, old), steps_of(factory, old)) == (["10"], [10])

    @pytest.mark.parametrize("state", ["running", "paused", "queued"])
    def test_never_of_jobs_that_may_go_on(self, factory: Factory, store: ArtifactStore, tmp_path: Path, state: str) -> None:
        factory.registered()
        job = factory.running("pretrain")
        save(factory, store, tmp_path, job)
        factory.update(job, state=state)
        sweep_checkpoints(factory.database, store, 0.0)
        assert (left(store, job), steps_of(factory, job)) == (["10", "5"], [5, 10])

    def test_those_of_a_job_that_is_tried_again_are_its_successors_too(
        self, factory: Factory, store: ArtifactStore, tmp_path: Path
    ) -> None:
        factory.registered()
        first = factory.running("pretrain")
        save(factory, store, tmp_path, first)
        end(factory, first, Outcome.BAD_DATA, 30.0)
        second = self._retry(factory, first)
        sweep_checkpoints(factory.database, store, KEEP_DAYS)
        assert steps_of(factory, first) == [5, 10]
        end(factory, factory.claimed(second), Outcome.BAD_DATA, 20.0)
        third = self._retry(factory, second)
        sweep_checkpoints(factory.database, store, KEEP_DAYS)
        assert steps_of(factory, first) == [5, 10]
        end(factory, factory.claimed(third), Outcome.BAD_DATA, 15.0)
        sweep_checkpoints(factory.database, store, KEEP_DAYS)
        assert steps_of(factory, first) == [10]

    def test_goes_on_where_it_was_stopped(self, factory: Factory, store: ArtifactStore, tmp_path: Path) -> None:
        factory.registered()
        job = factory.running("pretrain")
        save(factory, store, tmp_path, job)
        end(factory, job, Outcome.SUCCEEDED, 15.0)
        write(factory.database, judge_checkpoints, job.id, factory.database.now())  # and then the scheduler was killed
        with factory.database.read() as session:
            assert [each.step for each in list_checkpoints(session, job.id)] == [10], "nobody reads what is about to go"
        sweep_checkpoints(factory.database, store, KEEP_DAYS)
        assert (left(store, job), steps_of(factory, job)) == (["10"], [10])

    @staticmethod
    def _retry(factory: Factory, job: Job) -> Any:
        with factory.database.write() as session:
            return retry(session, get_job_or_raise(session, job.project_id, job.id, for_update=True), RetryChanges())

"""A job that begins at another job's checkpoint: refused where it cannot work, and nobody takes the checkpoint from it."""

from typing import Any

import pytest
from factories import Factory, request_of, write
from sqlmodel import select

from modelyard.domain.errors import InvalidRequest, UnknownReference
from modelyard.domain.jobs.checkpoints import (
    CheckpointInUse,
    forget_surplus,
    get_checkpoint_or_raise,
    list_views,
    note_look,
    remove,
)
from modelyard.domain.jobs.keeping import Keep
from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.recording import add_checkpoint, list_discarded
from modelyard.domain.jobs.repository import get_job_or_raise, list_resumable
from modelyard.domain.jobs.resubmission import RetryChanges, retry
from modelyard.domain.jobs.stopping import cancel
from modelyard.domain.jobs.submission import submit
from modelyard.domain.jobs.tables import Attempt, Checkpoint, Job
from modelyard.domain.reproduction.service import reproduce

Losses = dict[int, float | None]


def saved(factory: Factory, losses: Losses, **request: Any) -> Job:
    """A running job with checkpoints: step -> validation loss."""
    factory.registered()
    job = factory.running("pretrain", **request)
    for step, loss in losses.items():
        key, metrics = f"checkpoints/{job.id}/{step}", {} if loss is None else {"validation_loss": loss}
        manifest = {"sha256": str(step), "bytes": 100}
        write(factory.database, add_checkpoint, job.id, job.attempt, step, key, manifest, metrics, factory.database.now())
    return job


def checkpoint_of(factory: Factory, job: Job, step: int) -> str:
    (id_,) = factory.find(select(Checkpoint.id).where(Checkpoint.job_id == job.id, Checkpoint.step == step))
    return str(id_)


def begin_at(factory: Factory, checkpoint_id: str, *, project: str = "default", slots: int = 1, **spec: Any) -> Job:
    with factory.database.write() as session:
        request = request_of("pretrain", slots=slots, spec=spec, resume_from=checkpoint_id)
        return submit(session, factory.project(project), request)


def take_away(factory: Factory, job: Job, step: int) -> None:
    """What DELETE does."""
    with factory.database.write() as session:
        checkpoint, _ = get_checkpoint_or_raise(session, job.project_id, checkpoint_of(factory, job, step))
        remove(session, checkpoint, get_job_or_raise(session, job.project_id, job.id, for_update=True))


def end(factory: Factory, job: Job, outcome: Outcome = Outcome.BAD_DATA) -> None:
    write(factory.database, finish, job.id, job.attempt, outcome)


class TestSubmit:
    def test_says_where_it_begins_and_keeps_the_batch(self, factory: Factory) -> None:
        first = saved(factory, {50: 2.0})
        checkpoint_id = checkpoint_of(factory, first, 50)
        second = begin_at(factory, checkpoint_id, slots=2, micro_batch_size=2)
        assert (second.resume_from, second.resume_from_job, second.resume_from_step) == (checkpoint_id, first.id, 50)
        assert second.spec["global_batch_size"] == 8
        assert second.fingerprint is None, "more than spec and inputs decides what it makes"
        with factory.database.read() as session:
            assert [each.checkpoint.id for each in list_resumable(session, second.id)] == [checkpoint_id]

    def test_refused_with_the_numbers(self, factory: Factory) -> None:
        first = saved(factory, {50: 2.0})
        with pytest.raises(InvalidRequest, match="40 are not beyond the 50 steps") as refused:
            begin_at(factory, checkpoint_of(factory, first, 50), steps=40)
        assert refused.value.field == "spec.steps"

    def test_only_what_is_there_and_ones_own(self, factory: Factory) -> None:
        first = saved(factory, {50: 2.0, 100: 1.0})
        take_away(factory, first, 50)
        for checkpoint_id in ("ckpt_none", checkpoint_of(factory, first, 50)):
            with pytest.raises(UnknownReference, match="there is no checkpoint"):
                begin_at(factory, checkpoint_id)
        factory.registered(project="other")
        with pytest.raises(UnknownReference, match="there is no checkpoint"):
            begin_at(factory, checkpoint_of(factory, first, 100), project="other")

    def test_neither_damaged_ones_nor_those_about_to_be_discarded(self, factory: Factory) -> None:
        first = saved(factory, {50: 2.0})
        checkpoint = factory.get(Checkpoint, checkpoint_of(factory, first, 50))
        write(factory.database, note_look, checkpoint, "state/weights.pt is missing")
        with pytest.raises(InvalidRequest, match=r"was found damaged: state/weights\.pt is missing"):
            begin_at(factory, checkpoint.id)
        write(factory.database, note_look, checkpoint, None)
        factory.update(first, stop_requested="discarded")
        with pytest.raises(UnknownReference):
            begin_at(factory, checkpoint.id)

    def test_kinds_without_checkpoints(self, factory: Factory) -> None:
        with pytest.raises(InvalidRequest, match="a import job has no checkpoints"), factory.database.write() as session:
            submit(session, factory.project_id, request_of("import", resume_from="ckpt_1"))


class TestAgain:
    def test_a_retry_begins_there_too_also_when_it_is_gone(self, factory: Factory) -> None:
        first = saved(factory, {50: 2.0, 100: 1.0})
        second = begin_at(factory, checkpoint_of(factory, first, 50))
        end(factory, factory.claimed(second))
        take_away(factory, first, 50)
        with factory.database.write() as session:
            again = retry(session, get_job_or_raise(session, second.project_id, second.id, for_update=True), RetryChanges())
            assert (again.resume_from, again.resume_from_step) == (second.resume_from, 50)
            assert list_resumable(session, again.id) == []

    def test_a_reproduction_needs_it(self, factory: Factory) -> None:
        first = saved(factory, {50: 2.0, 100: 1.0})
        second = begin_at(factory, checkpoint_of(factory, first, 50))
        write(factory.database, finish, second.id, factory.claimed(second).attempt, Outcome.SUCCEEDED)
        with factory.database.write() as session:
            copy = reproduce(session, get_job_or_raise(session, second.project_id, second.id))
            assert (copy.resume_from, copy.spec) == (second.resume_from, second.spec)
        end(factory, factory.claimed(copy))
        take_away(factory, first, 50)
        with pytest.raises(UnknownReference, match="there is no checkpoint"), factory.database.write() as session:
            reproduce(session, get_job_or_raise(session, second.project_id, second.id))


class TestKeep:
    def test_what_an_open_job_begins_at_stays_until_it_ends(self, factory: Factory) -> None:
        first = saved(factory, {10: 3.0})
        second = begin_at(factory, checkpoint_of(factory, first, 10))
        for step, loss in ((20, 2.0), (30, 1.0), (40, 1.5)):
            write(
                factory.database,
                add_checkpoint,
                first.id,
                1,
                step,
                f"c/{step}",
                {"sha256": "", "bytes": 1},
                {"validation_loss": loss},
                0.0,
            )
        views = self._views(factory, first)
        assert views == {40: ["newest"], 30: ["recent", "best"], 20: [], 10: ["needed"]}
        assert [each.step for each in write(factory.database, forget_surplus, first)] == [20]
        end(factory, factory.claimed(second))
        assert [each.step for each in write(factory.database, forget_surplus, first)] == [10]

    def test_the_damaged_one_is_nobodys_best(self, factory: Factory) -> None:
        first = saved(factory, {10: 1.0, 20: 2.0, 30: 3.0, 40: None})
        write(factory.database, note_look, factory.get(Checkpoint, checkpoint_of(factory, first, 10)), "gone")
        assert self._views(factory, first)[20] == ["best"]

    def test_discarding_waits_for_it(self, factory: Factory) -> None:
        first = saved(factory, {10: 3.0})
        second = begin_at(factory, checkpoint_of(factory, first, 10))
        with factory.database.write() as session:
            cancel(session, get_job_or_raise(session, first.project_id, first.id, for_update=True), keep_checkpoint=False)
        write(factory.database, finish, first.id, first.attempt, Outcome.CANCELLED)
        assert write(factory.database, list_discarded) == []
        end(factory, factory.claimed(second))
        assert [job.id for job in write(factory.database, list_discarded)] == [first.id]

    @staticmethod
    def _views(factory: Factory, job: Job) -> dict[int, list[Keep]]:
        with factory.database.read() as session:
            return {view.checkpoint.step: view.kept_for for view in list_views(session, job)}


class TestRemove:
    def test_not_the_only_good_one_of_a_job_that_can_go_on(self, factory: Factory) -> None:
        job = saved(factory, {10: 3.0, 20: 2.0})
        write(factory.database, note_look, factory.get(Checkpoint, checkpoint_of(factory, job, 10)), "gone")
        with pytest.raises(CheckpointInUse, match="the only good one"):
            take_away(factory, job, 20)
        take_away(factory, job, 10)
        end(factory, job)
        take_away(factory, job, 20)
        with factory.database.read() as session:
            assert list_views(session, job) == []

    def test_not_the_one_a_retry_goes_on_from(self, factory: Factory) -> None:
        first = saved(factory, {10: 3.0})
        end(factory, first)
        with factory.database.write() as session:
            again = retry(session, get_job_or_raise(session, first.project_id, first.id, for_update=True), RetryChanges())
        with pytest.raises(CheckpointInUse, match=again.id):
            take_away(factory, first, 10)

    def test_not_what_an_open_job_begins_at(self, factory: Factory) -> None:
        first = saved(factory, {10: 3.0, 20: 2.0})
        second = begin_at(factory, checkpoint_of(factory, first, 10))
        with pytest.raises(CheckpointInUse, match=f"is where job {second.id} begins"):
            take_away(factory, first, 10)
        end(factory, factory.claimed(second))
        take_away(factory, first, 10)

    def test_not_what_a_running_attempt_reads(self, factory: Factory) -> None:
        job = saved(factory, {10: 3.0, 20: 2.0})
        with factory.database.write() as session:
            attempt = session.exec(select(Attempt).where(Attempt.job_id == job.id)).one()
            attempt.resumed_from = checkpoint_of(factory, job, 10)
        with pytest.raises(CheckpointInUse, match="the running attempt"):
            take_away(factory, job, 10)
        take_away(factory, job, 20)

"""Trying again: what is over stays as it ended, a new job goes on from there."""

import threading

import pytest
from factories import Factory, write
from pipeline_steps import create, fail, jobs_of, look, step, succeed
from sqlmodel import Session

from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.recording import add_checkpoint
from modelyard.domain.jobs.repository import get_job_or_raise, list_resumable
from modelyard.domain.jobs.resubmission import RETRIABLE, NotRetriable, RetryChanges, retry
from modelyard.domain.jobs.tables import Job
from modelyard.domain.pipelines.advancement import settle
from modelyard.domain.pipelines.lifecycle import newest_of_steps
from modelyard.domain.pipelines.repository import list_jobs_of
from modelyard.domain.pipelines.resubmission import NothingToRetry, retry_pipeline, retry_step
from modelyard.domain.pipelines.tables import Pipeline

FORK = {"a": step("import"), "b": step("import", "a"), "c": step("import", "b"), "side": step("import")}
SAME = RetryChanges()


def again(factory: Factory, job: Job, changes: RetryChanges = SAME) -> Job:
    """Retry a job that stands alone, as the API does."""

    def act(session: Session) -> Job:
        return retry(session, get_job_or_raise(session, job.project_id, job.id, for_update=True), changes)

    made: Job = write(factory.database, act)
    return made


def step_again(factory: Factory, job: Job) -> Job:
    """Retry a step."""

    def act(session: Session) -> Job:
        return retry_step(session, get_job_or_raise(session, job.project_id, job.id), SAME)

    made: Job = write(factory.database, act)
    return made


def save(factory: Factory, job: Job, number: int) -> None:
    """A checkpoint of the running attempt."""
    manifest = {"sha256": "a" * 64, "bytes": 7}
    write(factory.database, add_checkpoint, job.id, 1, number, f"checkpoints/{job.id}/{number}", manifest, {}, 1.0)


def resumable(factory: Factory, job: Job) -> list[str]:
    """Where a job may continue from, best first."""
    with factory.database.read() as session:
        return [each.checkpoint.artifact_key for each in list_resumable(session, job.id)]


class TestRetry:
    def test_asks_for_the_same_again(self, factory: Factory) -> None:
        seen = factory.registered()
        job = factory.running("pretrain", slots=2, priority=70, max_attempts=3, name="mine", preemptible=True)
        factory.update(job, state="failed", reason="user_code")
        factory.registered(content="b")
        made = again(factory, job)
        kept = ("spec", "inputs", "queue", "slots", "nodes", "accelerator", "priority", "max_attempts", "name", "preemptible")
        assert {name: getattr(made, name) for name in kept} == {name: getattr(job, name) for name in kept}
        assert (made.state, made.attempt, made.retry_of, made.inputs["dataset"]["id"]) == ("queued", 0, job.id, seen.id)
        assert factory.get(Job, job.id).state == "failed"

    def test_approved_once_and_kept_away_from_hosts(self, factory: Factory) -> None:
        job = factory.job()
        factory.update(
            job, state="failed", needs_approval=True, approved_at=12.5, approved_by="key_boss", avoid_hosts=["bad"], reason="hang"
        )
        made = again(factory, job)
        assert (made.state, made.needs_approval, made.approved_at, made.approved_by) == ("queued", True, 12.5, "key_boss")
        assert made.avoid_hosts == ["bad"]

    def test_what_nobody_approved_asks_again(self, factory: Factory) -> None:
        job = factory.job()
        factory.update(job, state="cancelled", needs_approval=True, reason="rejected")
        made = again(factory, job)
        assert (made.state, made.reason, made.approved_at) == ("held", "approval", None)

    def test_changes_what_is_asked_for(self, factory: Factory) -> None:
        job = factory.job()
        factory.update(job, state="cancelled")
        made = again(factory, job, RetryChanges(priority=0, max_attempts=5))
        assert (made.priority, made.max_attempts) == (0, 5)

    @pytest.mark.parametrize("state", list(JobState))
    def test_only_what_ended_badly(self, factory: Factory, state: JobState) -> None:
        job = factory.job()
        factory.update(job, state=str(state))
        if state in RETRIABLE:
            assert again(factory, job).state == "queued"
        else:
            with pytest.raises(NotRetriable, match=r"submit it again|resume|cancel first"):
                again(factory, job)

    def test_not_what_only_another_version_understood(self, factory: Factory) -> None:
        job = factory.job()
        factory.update(job, state="failed", spec={"kind": "dance"})
        with pytest.raises(NotRetriable, match="another version"):
            again(factory, job)

    def test_once_per_job(self, factory: Factory) -> None:
        job = factory.job()
        factory.update(job, state="failed")
        made = again(factory, job)
        with pytest.raises(NotRetriable, match=f"by {made.id} already"):
            again(factory, job)


class TestResumable:
    def test_its_own_then_those_before_it(self, factory: Factory) -> None:
        factory.registered()
        first = factory.running("pretrain")
        save(factory, first, 50)
        save(factory, first, 100)
        factory.update(first, state="failed")
        second = factory.claimed(again(factory, first))
        assert resumable(factory, second) == [f"checkpoints/{first.id}/{number}" for number in (100, 50)]
        save(factory, second, 150)
        factory.update(second, state="cancelled")
        third = again(factory, second)
        assert [key.rsplit("/")[-1] for key in resumable(factory, third)] == ["150", "100", "50"]

    def test_not_from_other_data(self, factory: Factory) -> None:
        factory.registered()
        first = factory.running("pretrain")
        save(factory, first, 50)
        factory.update(first, state="failed")
        second = again(factory, first)
        factory.update(second, inputs={"dataset": {"type": "dataset", "id": "ds_other"}})
        assert resumable(factory, second) == []


class TestRetryPipeline:
    def test_only_what_failed(self, factory: Factory) -> None:
        jobs = create(factory, FORK)
        id_ = str(jobs["a"].pipeline_id)
        fail(factory, jobs["a"])
        succeed(factory, jobs["side"], model=("model", "base"))
        assert look(factory, id_) == {"a": "failed", "b": "failed", "c": "failed", "side": "succeeded"}
        assert factory.get(Pipeline, id_).state == "failed"
        made = write(factory.database, retry_pipeline, id_)
        assert [job.step for job in made] == ["a", "b", "c"]
        pipeline = factory.get(Pipeline, id_)
        assert (pipeline.state, pipeline.finished_at) == ("running", None)
        newest = jobs_of(factory, id_)
        assert {name: (job.state, job.retry_of) for name, job in newest.items()} == {
            "a": ("queued", jobs["a"].id),
            "b": ("held", jobs["b"].id),
            "c": ("held", jobs["c"].id),
            "side": ("succeeded", None),
        }
        assert [*newest] == ["a", "side", "b", "c"]
        for name in "abc":
            succeed(factory, jobs_of(factory, id_)[name], model=("model", "base"))
            look(factory, id_)
        assert factory.get(Pipeline, id_).state == "succeeded"
        with factory.database.read() as session:
            assert len(list_jobs_of(session, id_)) == 7

    def test_a_step_whose_dependencies_are_done_starts_at_once(self, factory: Factory) -> None:
        jobs = create(factory, FORK)
        succeed(factory, jobs["a"], model=("model", "base"))
        succeed(factory, jobs["side"], model=("model", "base"))
        look(factory, jobs["a"].pipeline_id)
        fail(factory, jobs_of(factory, str(jobs["a"].pipeline_id))["b"])
        look(factory, jobs["a"].pipeline_id)
        made = write(factory.database, retry_pipeline, jobs["a"].pipeline_id)
        assert {job.step: job.state for job in made} == {"b": "queued", "c": "held"}

    @pytest.mark.parametrize("ending", ["running", "succeeded"])
    def test_nothing_to_retry(self, factory: Factory, ending: str) -> None:
        jobs = create(factory, {"a": step("import")})
        if ending == "succeeded":
            succeed(factory, jobs["a"], model=("model", "base"))
            look(factory, jobs["a"].pipeline_id)
        with pytest.raises(NothingToRetry, match=ending):
            write(factory.database, retry_pipeline, jobs["a"].pipeline_id)

    def test_nobody_settles_it_meanwhile(self, factory: Factory) -> None:
        jobs = create(factory, {"a": step("import")})
        id_ = str(jobs["a"].pipeline_id)
        fail(factory, jobs["a"])
        scheduler = threading.Thread(target=write, args=(factory.database, settle, id_))
        with factory.database.write() as session:
            retry_pipeline(session, id_)
            scheduler.start()
            scheduler.join(0.3)  # it waits for this transaction, and so must not judge by what was there before
        scheduler.join()
        assert factory.get(Pipeline, id_).state == "running"


class TestRetryStep:
    def test_takes_along_what_failed_because_of_it(self, factory: Factory) -> None:
        jobs = create(factory, FORK)
        id_ = str(jobs["a"].pipeline_id)
        fail(factory, jobs["a"])
        look(factory, id_)
        factory.update(jobs["side"], state="cancelled")
        made = step_again(factory, jobs["a"])
        assert {name: job.state for name, job in jobs_of(factory, id_).items()} == {
            "a": "queued",
            "b": "held",
            "c": "held",
            "side": "cancelled",
        }
        assert factory.get(Pipeline, id_).state == "running"
        with pytest.raises(NotRetriable, match=f"replaced by {made.id}"):
            step_again(factory, jobs["a"])

    def test_not_before_what_it_depends_on(self, factory: Factory) -> None:
        jobs = create(factory, FORK)
        fail(factory, jobs["a"])
        look(factory, jobs["a"].pipeline_id)
        with pytest.raises(NotRetriable, match=f"pipelines/{jobs['a'].pipeline_id}/retry"):
            step_again(factory, jobs["b"])


class TestNewestOfSteps:
    def test_follows_the_chain_whatever_the_ids(self) -> None:
        def job(id_: str, step: str, retry_of: str | None = None) -> Job:
            return Job(id=id_, step=step, retry_of=retry_of)  # type: ignore[call-arg]

        jobs = [job("1", "a", "9"), job("5", "b", "7"), job("7", "b"), job("8", "c"), job("9", "a", "95"), job("95", "a")]
        assert [each.id for each in newest_of_steps(jobs)] == ["5", "8", "1"]

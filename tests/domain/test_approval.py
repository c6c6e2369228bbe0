"""Jobs that wait for somebody's word."""

from dataclasses import replace

import pytest
from factories import Factory, write
from pipeline_steps import create, look, step, succeed
from sqlmodel import Session

from modelyard.domain.jobs.approval import NotWaitingForApproval, approve, reject
from modelyard.domain.jobs.ownership import claim
from modelyard.domain.jobs.repository import get_job_or_raise, list_events
from modelyard.domain.jobs.tables import Job
from modelyard.domain.pipelines.advancement import advance
from modelyard.domain.pipelines.service import StepRequest


def say_yes(factory: Factory, job: Job) -> Job:
    """Approve as the API does."""

    def act(session: Session) -> None:
        row = get_job_or_raise(session, job.project_id, job.id, for_update=True)
        approve(session, row, "key_1", "fine")
        advance(session, job.id)

    write(factory.database, act)
    return now(factory, job)


def say_no(factory: Factory, job: Job) -> Job:
    """Turn down as the API does."""

    def act(session: Session) -> None:
        reject(session, get_job_or_raise(session, job.project_id, job.id, for_update=True), "key_1", "too dear")

    write(factory.database, act)
    return now(factory, job)


def now(factory: Factory, job: Job) -> Job:
    """The job as it is now."""
    found: Job = factory.get(Job, job.id)
    return found


def with_approval(request: StepRequest) -> StepRequest:
    """The same step, held until somebody approves it."""
    return replace(request, job=replace(request.job, needs_approval=True))


class TestApprove:
    def test_nobody_runs_it_before(self, factory: Factory) -> None:
        job = factory.job(needs_approval=True)
        assert (job.state, job.reason) == ("held", "approval")
        assert "scope `write`" in str(job.message)
        write(factory.database, advance, job.id)
        assert write(factory.database, claim, job.queue, "w", ["cpu-0"], 30.0) is None
        after = say_yes(factory, job)
        assert (after.state, after.reason, after.message, after.approved_by) == ("queued", None, None, "key_1")
        assert after.approved_at is not None
        with factory.database.read() as session:
            events = [event.data for event in list_events(session, job.id) if event.type == "approved"]
        assert events == [{"by": "key_1", "comment": "fine"}]

    def test_what_was_there_at_submission_is_what_runs(self, factory: Factory) -> None:
        seen = factory.registered()
        job = factory.job("pretrain", needs_approval=True)
        factory.registered(content="b")
        assert say_yes(factory, job).inputs["dataset"]["id"] == seen.id

    @pytest.mark.parametrize("early", [True, False])
    def test_a_step_waits_for_both(self, factory: Factory, early: bool) -> None:
        steps = {"a": step("import"), "b": with_approval(step("import", "a")), "c": step("import", "b")}
        jobs = create(factory, steps)
        if early:
            assert say_yes(factory, jobs["b"]).reason == "dependency"
        succeed(factory, jobs["a"], model=("model", "base"))
        states = look(factory, jobs["a"].pipeline_id)
        if not early:
            assert states["b"] == "held"
            assert now(factory, jobs["b"]).reason == "approval"
            assert say_yes(factory, jobs["b"]).state == "queued"
        assert look(factory, jobs["a"].pipeline_id) == {"a": "succeeded", "b": "queued", "c": "held"}


class TestReject:
    def test_ends_it_and_what_is_behind_it(self, factory: Factory) -> None:
        jobs = create(factory, {"a": with_approval(step("import")), "b": step("import", "a")})
        after = say_no(factory, jobs["a"])
        assert (after.state, after.reason, after.message) == ("cancelled", "rejected", "Rejected by key_1: too dear")
        assert after.finished_at is not None
        assert look(factory, after.pipeline_id) == {"a": "cancelled", "b": "failed"}
        assert "too dear" in str(now(factory, jobs["b"]).message)


class TestRefuse:
    @pytest.mark.parametrize("say", [say_yes, say_no])
    @pytest.mark.parametrize(
        ("needs", "values", "why"),
        [
            (False, {}, "without `needs_approval`"),
            (True, {"approved_at": 1.0, "approved_by": "key_9"}, "approved by key_9 already"),
            (True, {"state": "cancelled"}, "is cancelled already; submit it again"),
            (True, {"state": "paused"}, "is paused; POST /v1/jobs/job_.*/resume lets it wait"),
        ],
    )
    def test_says_why(self, factory: Factory, say: object, needs: bool, values: dict[str, object], why: str) -> None:
        job = factory.job(needs_approval=needs)
        factory.update(job, **values)
        with pytest.raises(NotWaitingForApproval, match=why):
            say(factory, job)  # type: ignore[operator]

"""Cancel, pause and resume, in every state a job can be in."""

from functools import partial

import pytest
from factories import Factory, write
from sqlmodel import Session

from modelyard.domain.errors import Conflict
from modelyard.domain.jobs import stopping
from modelyard.domain.jobs.lifecycle import JobState, Outcome
from modelyard.domain.jobs.ownership import finish, renew
from modelyard.domain.jobs.repository import get_job_or_raise
from modelyard.domain.jobs.tables import Job

ACTIONS = {
    "cancel": stopping.cancel,
    "discard": partial(stopping.cancel, keep_checkpoint=False),
    "pause": stopping.pause,
    "resume": stopping.resume,
}


PAUSABLE = {JobState.HELD, JobState.QUEUED, JobState.RUNNING, JobState.PAUSING}


def act(factory: Factory, name: str, job: Job) -> Job:
    """Do as the API does: read the job locked, then act."""

    def locked(session: Session) -> None:
        ACTIONS[name](session, get_job_or_raise(session, job.project_id, job.id, for_update=True))

    write(factory.database, locked)
    now: Job = factory.get(Job, job.id)
    return now


def pretraining(factory: Factory, state: str) -> Job:
    """A job of a kind that can continue, in a state."""
    factory.registered()
    job = factory.running("pretrain")
    factory.update(job, state=state)
    return job


class TestAct:
    @pytest.mark.parametrize(
        ("action", "state", "after", "stop"),
        [
            ("cancel", "held", "cancelled", None),
            ("cancel", "queued", "cancelled", None),
            ("cancel", "paused", "cancelled", None),
            ("cancel", "running", "cancelling", "cancelled"),
            ("cancel", "pausing", "cancelling", "cancelled"),
            ("cancel", "cancelling", "cancelling", None),
            ("discard", "queued", "cancelled", "discarded"),
            ("discard", "paused", "cancelled", "discarded"),
            ("discard", "running", "cancelling", "discarded"),
            ("discard", "cancelling", "cancelling", "discarded"),
            ("pause", "running", "pausing", "paused"),
            ("pause", "queued", "paused", None),
            ("pause", "held", "paused", None),
            ("pause", "pausing", "pausing", None),
            ("resume", "paused", "queued", None),
        ],
    )
    def test_moves(self, factory: Factory, action: str, state: str, after: str, stop: str | None) -> None:
        now = act(factory, action, pretraining(factory, state))
        assert (now.state, now.stop_requested) == (after, stop)
        assert (now.finished_at is not None) == (after == "cancelled")

    @pytest.mark.parametrize(
        ("action", "states"),
        [
            ("cancel", ["succeeded", "failed", "cancelled", "quarantined"]),
            ("pause", [each for each in JobState if each not in PAUSABLE]),
            ("resume", [each for each in JobState if each is not JobState.PAUSED]),
        ],
    )
    def test_says_why_it_cannot(self, factory: Factory, action: str, states: list[str]) -> None:
        job = pretraining(factory, "running")
        for state in states:
            factory.update(job, state=str(state))
            with pytest.raises(Conflict, match=f"{job.id} is (already )?{state}"):
                act(factory, action, job)
            assert factory.get(Job, job.id).state == state

    def test_what_cannot_continue_cannot_pause(self, factory: Factory) -> None:
        with pytest.raises(Conflict, match=r"running import job cannot continue.*cancel it instead"):
            act(factory, "pause", factory.running("import"))


class TestWholeWay:
    def test_the_runner_learns_of_it(self, factory: Factory) -> None:
        job = pretraining(factory, "running")
        assert write(factory.database, renew, job.id, 1, 30.0).stop_requested is None
        act(factory, "pause", job)
        assert write(factory.database, renew, job.id, 1, 30.0).stop_requested == "paused"
        act(factory, "cancel", job)
        assert write(factory.database, renew, job.id, 1, 30.0).stop_requested == "cancelled"
        write(factory.database, finish, job.id, 1, Outcome.CANCELLED)
        assert factory.get(Job, job.id).state == "cancelled"

    def test_pause_and_go_on(self, factory: Factory) -> None:
        job = pretraining(factory, "running")
        act(factory, "pause", job)
        write(factory.database, finish, job.id, 1, Outcome.PAUSED)
        assert factory.get(Job, job.id).stop_requested is None
        act(factory, "resume", job)
        again = factory.claimed(job)
        assert (again.attempt, again.stop_requested, again.message) == (2, None, None)

    def test_a_pause_outlives_a_lost_worker(self, factory: Factory) -> None:
        job = pretraining(factory, "running")
        act(factory, "pause", job)
        write(factory.database, finish, job.id, 1, Outcome.NODE_LOST)
        assert factory.get(Job, job.id).state == "paused"

    def test_what_waits_may_pause_whatever_its_kind(self, factory: Factory) -> None:
        job = factory.job("import")
        assert act(factory, "pause", job).state == "paused"
        assert act(factory, "resume", job).state == "queued"

    def test_a_held_job_is_held_again_after_its_pause(self, factory: Factory) -> None:
        factory.registered()
        job = factory.job("pretrain")
        factory.update(job, state="held", reason="quota", message="8 of 8 GPUs are in use")
        paused = act(factory, "pause", job)
        assert (paused.state, paused.reason) == ("paused", "quota")
        held = act(factory, "resume", job)
        assert (held.state, held.reason, held.message) == ("held", "quota", "8 of 8 GPUs are in use")

    def test_a_job_paused_while_it_backs_off_waits_in_its_queue_again(self, factory: Factory) -> None:
        job = factory.running("import", max_attempts=2)
        write(factory.database, finish, job.id, 1, Outcome.USER_CODE, "broken")
        act(factory, "pause", job)
        assert act(factory, "resume", job).state == "queued"

    def test_what_is_to_be_discarded_stays_marked_after_the_runner_left(self, factory: Factory) -> None:
        job = pretraining(factory, "running")
        act(factory, "cancel", job)
        act(factory, "discard", job)
        assert write(factory.database, renew, job.id, 1, 30.0).stop_requested == "discarded"
        write(factory.database, finish, job.id, 1, Outcome.CANCELLED)
        now = factory.get(Job, job.id)
        assert (now.state, now.stop_requested) == ("cancelled", "discarded")

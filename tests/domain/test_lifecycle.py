"""The table of legal moves, and what it means for a job."""

import itertools

import pytest
from factories import Factory, write
from sqlmodel import select

from modelyard.domain.jobs.lifecycle import (
    ACTIVE,
    FINISHED,
    LEGAL_MOVES,
    IllegalMove,
    JobState,
    Outcome,
    StaleAttempt,
    check_move,
)
from modelyard.domain.jobs.ownership import change
from modelyard.domain.jobs.retry import Past, decide_next
from modelyard.domain.jobs.tables import Job, JobEvent

MOVES = list(itertools.product(JobState, JobState))


class TestCheckMove:
    @pytest.mark.parametrize(("state", "wanted"), [move for move in MOVES if move[1] not in LEGAL_MOVES[move[0]]])
    def test_every_illegal_move_raises(self, state: JobState, wanted: JobState) -> None:
        with pytest.raises(IllegalMove, match=f"job_1 is {state} and cannot become {wanted}"):
            check_move("job_1", state, wanted)

    @pytest.mark.parametrize(("state", "wanted"), [move for move in MOVES if move[1] in LEGAL_MOVES[move[0]]])
    def test_every_legal_move_passes(self, state: JobState, wanted: JobState) -> None:
        check_move("job_1", state, wanted)

    def test_every_state_has_its_moves(self) -> None:
        assert set(LEGAL_MOVES) == set(JobState)
        assert {state for state, moves in LEGAL_MOVES.items() if not moves} == FINISHED
        assert not ACTIVE & FINISHED

    def test_every_state_can_be_left_and_reached(self) -> None:
        assert all(LEGAL_MOVES[state] & FINISHED or state is JobState.PAUSED for state in JobState if state not in FINISHED)
        assert {wanted for moves in LEGAL_MOVES.values() for wanted in moves} == set(JobState)

    @pytest.mark.parametrize("outcome", Outcome)
    @pytest.mark.parametrize(("state", "stop"), [("running", None), ("pausing", "paused"), ("cancelling", "cancelled")])
    def test_the_retry_policy_asks_only_for_legal_moves(self, state: str, stop: str | None, outcome: Outcome) -> None:
        # The runner names this only when it was asked to, and then the job is in another state.
        if (state, outcome) == ("pausing", Outcome.CANCELLED):
            return
        for length in range(1, 8):
            after = decide_next(stop, [Past(outcome)] * length, 3)
            check_move("job_1", state, after.state)


class TestChange:
    def test_writes_state_values_and_event_together(self, factory: Factory) -> None:
        job = factory.job()
        with factory.database.write() as session:
            mine = session.get(Job, job.id)
            assert mine is not None
            change(session, mine, JobState.CANCELLED, {"why": "test"}, message="gone")
            assert (mine.state, mine.message) == ("cancelled", "gone")
        now = factory.get(Job, job.id)
        assert (now.state, now.message) == ("cancelled", "gone")
        last = factory.find(select(JobEvent).where(JobEvent.job_id == job.id).order_by(JobEvent.id.desc()))[0]
        assert (last.type, last.data) == ("state", {"state": "cancelled", "why": "test"})

    def test_somebody_else_was_first_in_the_same_attempt(self, factory: Factory) -> None:
        seen_before = factory.running()
        factory.update(seen_before, state="cancelling")
        with pytest.raises(StaleAttempt):
            write(factory.database, change, seen_before, JobState.PAUSING)
        assert factory.get(Job, seen_before.id).state == "cancelling"

    def test_somebody_else_was_first(self, factory: Factory) -> None:
        seen_before = factory.job()
        factory.claimed(seen_before)
        with pytest.raises(StaleAttempt):
            write(factory.database, change, seen_before, JobState.CANCELLED)
        assert factory.get(Job, seen_before.id).state == "running"

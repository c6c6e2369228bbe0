"""What node 0 makes of the other nodes' endings: the failure that looks most like a cause names the attempt's."""

import pytest

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.tables import Seat
from modelyard.workers.runner.gang import _ending_of, judge
from modelyard.workers.runner.outcome import Ending

BROKE = Ending(Outcome.USER_CODE, "Node 2: broke", 1, 5)
KILLED = Ending(Outcome.RUNNER_LOST, "Node 1: rank 1 was killed", -9, 1)
AWAY = Ending(Outcome.NODE_LOST, "Node 1 was not heard of")
PEER_LEFT = Ending(Outcome.NCCL, "Connection closed by peer", 1)
NOT_FINITE = Ending(Outcome.NAN, "the loss is nan", 76)
DRAINED = Ending(Outcome.DRAINED, "Asked to stop (drained); saved and left", 75)
DONE = Ending(Outcome.SUCCEEDED, None, 0)
CASES = {
    "all ended well": (DONE, [None, None], DONE),
    "a node failed behind the back of this one": (DONE, [None, BROKE], BROKE),
    "what peers see is no cause": (PEER_LEFT, [None, KILLED], KILLED),
    "a node that went away without a word": (PEER_LEFT, [AWAY, None], AWAY),
    "the recipe's own failure comes before what it does to others": (KILLED, [BROKE], BROKE),
    "the same failure everywhere is this node's": (NOT_FINITE, [BROKE], NOT_FINITE),
    "this node was ended because of another": (None, [KILLED, None], KILLED),
    "asked to leave: how each did is no failure of the job": (DRAINED, [KILLED], DRAINED),
}


class TestJudge:
    @pytest.mark.parametrize(("own", "others", "expected"), CASES.values(), ids=CASES.keys())
    def test_the_first_cause(self, own: Ending | None, others: list[Ending | None], expected: Ending) -> None:
        assert judge(own, others) == expected


class TestEndingOf:
    @pytest.mark.parametrize(("renewed_ago", "is_lost"), [(1.0, False), (4.0, True), (90.0, True)])
    def test_a_node_that_missed_its_renewals_is_lost(self, renewed_ago: float, is_lost: bool) -> None:
        seat = Seat(job_id="job", attempt=1, node_rank=1, worker_id="w@h", state="running", made_at=0.0)
        seat.lease_expires_at = 1000.0 - renewed_ago + 30.0
        ending = _ending_of(seat, now=1000.0, lease_seconds=30.0)
        assert (ending is not None) is is_lost
        if ending is not None:
            assert ending == Ending(Outcome.NODE_LOST, f"Node 1 on w@h was not heard of for {renewed_ago:.0f} s")

    def test_one_that_left_badly_says_where(self) -> None:
        seat = Seat(job_id="job", attempt=1, node_rank=2, worker_id="w@h", state="left", made_at=0.0, outcome="oom_gpu")
        seat.message, seat.exit_code, seat.failing_rank = "CUDA out of memory", 1, 17
        assert _ending_of(seat, 0.0, 30.0) == Ending(Outcome.OOM_GPU, "Node 2 on w@h: CUDA out of memory", 1, 17)

"""Every ending of an attempt has one name, and it is that of the first cause."""

from typing import Any

import pytest

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.workers.runner.outcome import BY_STOP_REASON, Ending, Evidence, classify

CLOSED = "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:34438."
NCCL = "DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:2021, remote process exited or there was a network error"
TIMEOUT = "[rank1]: Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE) ran for 600007 ms"
LOADER = "RuntimeError: DataLoader worker (pid(s) 4711) exited: DataLoader worker (pid 4711) is killed by signal: Killed. "
CUDA = "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB"
FULL = "OSError: [Errno 28] No space left on device"
PRODUCED_ELSEWHERE = {
    Outcome.NODE_LOST: "the scheduler, when a lease ends: scheduler/repair.py",
    Outcome.DEPENDENCY_FAILED: "the scheduler, before the job runs: pipelines/advancement.py",
}


def error(reason: str, message: str = "m", rank: int = 0, at: float = 0.0) -> dict[str, Any]:
    """An `error` event."""
    return {"type": "error", "reason": reason, "message": message, "rank": rank, "at": at}


def lost(rank: int, at: float = 0.0) -> dict[str, Any]:
    """What a rank says whose neighbour went away."""
    return error("user_code", CLOSED, rank, at)


CODES: list[tuple[list[int | None], Ending]] = [
    ([0, 0], Ending(Outcome.SUCCEEDED, None, 0)),
    ([65], Ending(Outcome.BAD_DATA, "last line", 65, 0)),
    ([0, 76], Ending(Outcome.NAN, "last line", 76, 1)),
    ([77], Ending(Outcome.HANG, "last line", 77, 0)),
    ([1], Ending(Outcome.USER_CODE, "Rank 0 ended with exit code 1: last line", 1, 0)),
    ([-11], Ending(Outcome.USER_CODE, "Rank 0 ended with signal SIGSEGV: last line", -11, 0)),
    ([-9], Ending(Outcome.RUNNER_LOST, "Rank 0 was killed from outside by SIGKILL", -9, 0)),
    ([0, -15], Ending(Outcome.RUNNER_LOST, "Rank 1 was killed from outside by SIGTERM", -15, 1)),
    # one rank fails, and we end the others
    ([None, 76], Ending(Outcome.NAN, "last line", 76, 1)),
    ([-9, 76], Ending(Outcome.NAN, "last line", 76, 1)),
    ([-9, -11, None], Ending(Outcome.USER_CODE, "Rank 1 ended with signal SIGSEGV: last line", -11, 1)),
    ([None, -9, None], Ending(Outcome.RUNNER_LOST, "Rank 1 was killed from outside by SIGKILL", -9, 1)),
    # left half-way without being told: no success
    ([75], Ending(Outcome.RUNNER_LOST, "The recipe saved and left without being asked to", 75)),
    ([0, 75], Ending(Outcome.RUNNER_LOST, "The recipe saved and left without being asked to", 75)),
    ([0, None], Ending(Outcome.RUNNER_LOST, "The ranks were ended although none of them had failed")),
]
ERRORS: list[tuple[str, list[int | None], list[dict[str, Any]], Outcome, int | None, int | None]] = [
    ("what the recipe says counts most", [1, None], [error("oom_gpu")], Outcome.OOM_GPU, 0, 1),
    ("also for a rank whose code is our doing", [None, 1], [error("oom_gpu", rank=1)], Outcome.OOM_GPU, 1, 1),
    ("the first in time counts", [1, 1], [error("nan", rank=0, at=2), error("bad_data", rank=1, at=1)], Outcome.BAD_DATA, 1, 1),
    ("an unknown reason is the user's", [1], [error("no such reason", "")], Outcome.USER_CODE, 0, 1),
    ("a stall the runner saw", [None, None], [error("hang")], Outcome.HANG, 0, 77),
    ("a message knows better than its type", [1], [error("user_code", FULL)], Outcome.DISK_FULL, 0, 1),
    ("out of memory in a loader", [1], [error("user_code", LOADER)], Outcome.OOM_HOST, 0, 1),
    ("a survivor's words hide no cause", [1, 1], [lost(0, at=1), error("user_code", "KeyError", 1, 2)], Outcome.USER_CODE, 1, 1),
    ("nor a full disk", [1, 1], [lost(0, at=1), error("disk_full", FULL, 1, 2)], Outcome.DISK_FULL, 1, 1),
    ("nor one killed without a word", [-9, 1], [lost(1)], Outcome.RUNNER_LOST, 0, -9),
    ("nor one that broke without a word", [1, -11], [lost(0)], Outcome.USER_CODE, 1, -11),
    ("nor bad rows", [1, 65], [lost(0)], Outcome.BAD_DATA, 1, 65),
    ("the network itself", [1, 1], [lost(0, at=2), error("nccl", NCCL, 1, 1)], Outcome.NCCL, 1, 1),
    ("gloo's network itself", [1, 1], [lost(0, at=1), lost(1, at=2)], Outcome.NCCL, 0, 1),
]
LOGS: list[tuple[list[int | None], dict[int, list[str]], Outcome, int]] = [
    ([1], {0: ["Traceback", f"torch.{CUDA}", "cleaning up"]}, Outcome.OOM_GPU, 0),
    ([-6], {0: ["terminate called after throwing an instance of 'std::bad_alloc'"]}, Outcome.OOM_HOST, 0),
    ([-7], {0: [LOADER]}, Outcome.OOM_HOST, 0),
    ([1], {0: [FULL]}, Outcome.DISK_FULL, 0),
    ([None, -6], {0: ["fine"], 1: [TIMEOUT, "terminating the process"]}, Outcome.NCCL, 1),
    ([1, None], {0: [CLOSED]}, Outcome.NCCL, 0),
    ([1, -9], {0: [CLOSED], 1: ["step 7"]}, Outcome.RUNNER_LOST, 1),
    ([1, 1], {0: [CLOSED], 1: [FULL]}, Outcome.DISK_FULL, 1),
    ([0, 1], {0: [FULL], 1: ["ValueError"]}, Outcome.USER_CODE, 1),
    ([65], {0: ["reading rows", FULL]}, Outcome.BAD_DATA, 0),
]
STOPS: list[tuple[list[int | None], list[dict[str, Any]], str, Ending]] = [
    ([75, 75], [], "paused", Ending(Outcome.PAUSED, "Asked to stop (paused); saved and left", 75)),
    ([0, 75], [], "drained", Ending(Outcome.DRAINED, "Asked to stop (drained); saved and left", 75)),
    ([75], [], "preempted", Ending(Outcome.PREEMPTED, "Asked to stop (preempted); saved and left", 75)),
    ([75], [], "timeout", Ending(Outcome.TIMEOUT, "Asked to stop (timeout); saved and left", 75)),
    ([-9], [], "cancelled", Ending(Outcome.CANCELLED, "Asked to stop (cancelled); did not leave in time and was killed")),
    ([-9], [], "discarded", Ending(Outcome.CANCELLED, "Asked to stop (discarded); left without keeping its checkpoints")),
    ([75], [], "a new word", Ending(Outcome.CANCELLED, "Asked to stop (a new word); saved and left", 75)),
    ([1], [error("oom_gpu")], "paused", Ending(Outcome.OOM_GPU, "m", 1, 0)),
    ([75, 75], [error("oom_gpu")], "paused", Ending(Outcome.PAUSED, "Asked to stop (paused); saved and left", 75)),
    # one rank left before the other had finished talking to it
    (
        [75, 1],
        [lost(1)],
        "drained",
        Ending(Outcome.DRAINED, "Asked to stop (drained); did not leave in time and was killed"),
    ),
]


class TestClassify:
    @pytest.mark.parametrize(("codes", "ending"), CODES)
    def test_exit_codes(self, codes: list[int | None], ending: Ending) -> None:
        assert classify(Evidence(codes, last_lines={0: ["last line"], 1: ["", "last line", " "]})) == ending

    @pytest.mark.parametrize(("why", "codes", "errors", "outcome", "rank", "code"), ERRORS)
    def test_errors(
        self, why: str, codes: list[int | None], errors: list[dict[str, Any]], outcome: Outcome, rank: int, code: int
    ) -> None:
        ending = classify(Evidence(codes, errors))
        assert (ending.outcome, ending.failing_rank, ending.exit_code) == (outcome, rank, code), why

    @pytest.mark.parametrize(("codes", "lines", "outcome", "rank"), LOGS)
    def test_logs(self, codes: list[int | None], lines: dict[int, list[str]], outcome: Outcome, rank: int) -> None:
        ending = classify(Evidence(codes, last_lines=lines))
        assert (ending.outcome, ending.failing_rank) == (outcome, rank)

    @pytest.mark.parametrize(("codes", "errors", "stop", "ending"), STOPS)
    def test_stops(self, codes: list[int | None], errors: list[dict[str, Any]], stop: str, ending: Ending) -> None:
        assert classify(Evidence(codes, errors, stop)) == ending

    def test_leaving_where_it_was_told_to_pause_is_a_pause(self) -> None:
        ending = classify(Evidence([75, 75], pause_at_step=20))
        assert ending == Ending(Outcome.PAUSED, "Paused after step 20, where its sweep decides whether it goes on", 75)
        assert classify(Evidence([75, 75])).outcome is Outcome.RUNNER_LOST
        assert classify(Evidence([0, 0], pause_at_step=20)).outcome is Outcome.SUCCEEDED
        assert classify(Evidence([75, 75], stop_reason="drained", pause_at_step=20)).outcome is Outcome.DRAINED
        assert classify(Evidence([75, 1], [error("bad_data")], pause_at_step=20)).outcome is Outcome.BAD_DATA

    def test_a_kill_is_the_kernels_where_it_counted_one(self) -> None:
        assert classify(Evidence([-9], oom_kills=1)).outcome is Outcome.OOM_HOST
        assert classify(Evidence([-15], oom_kills=1)).outcome is Outcome.RUNNER_LOST
        assert classify(Evidence([1], [error("user_code")], oom_kills=1)).outcome is Outcome.USER_CODE

    def test_a_service_does_not_end_by_itself(self) -> None:
        assert classify(Evidence([0], is_service=True)).outcome is Outcome.USER_CODE
        assert classify(Evidence([0], stop_reason="drained", is_service=True)).outcome is Outcome.DRAINED

    def test_ranks_of_another_machine_keep_their_numbers(self) -> None:
        ending = classify(Evidence([None, 1], last_lines={5: [FULL]}, first_rank=4))
        assert (ending.outcome, ending.failing_rank, ending.message) == (Outcome.DISK_FULL, 5, f"Rank 5: {FULL}")

    @pytest.mark.parametrize("outcome", Outcome)
    def test_every_reason_a_recipe_may_name(self, outcome: Outcome) -> None:
        assert classify(Evidence([1], [{"reason": str(outcome), "message": "m"}])).outcome is outcome

    def test_every_outcome_is_in_a_table_or_made_elsewhere(self) -> None:
        shown = {ending.outcome for _, ending in CODES} | {row[3] for row in ERRORS} | {row[2] for row in LOGS}
        shown |= {ending.outcome for *_, ending in STOPS} | set(BY_STOP_REASON.values())
        assert shown | set(PRODUCED_ELSEWHERE) == set(Outcome)

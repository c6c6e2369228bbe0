"""Events in words."""

from typing import Any

import pytest

from modelyard.domain.jobs.lifecycle import HeldReason
from modelyard.domain.jobs.narration import HELD_FOR, LONGEST, TELLERS, Narration, narrate

ROLLED_BACK = {"why": "the loss is nan", "from_step": 5, "to_step": 3, "skipped_data_steps": [5, 6]}
BACK = "the loss is nan at step 5: back at step 3; the data of steps 5 to 6 are left out"
MORE_URGENT = "preempted: for a job of priority 0"
COUNTED = "rollback 1 of at most 3"


class TestNarrate:
    @pytest.mark.parametrize(
        ("type_", "data", "what", "why"),
        [
            ("state", {"state": "queued", "reason": None}, "submitted", ""),
            ("state", {"state": "queued"}, "queued", ""),
            ("state", {"state": "held", "reason": "approval"}, "held", "waits for approval"),
            ("state", {"state": "held"}, "held", ""),
            ("state", {"state": "running", "attempt": 1, "worker": "a@b"}, "started", "on a@b"),
            ("state", {"state": "running", "worker": "a@b", "workers": ["a@b", "c@d"]}, "started", "on a@b, c@d"),
            ("state", {"state": "queued", "outcome": "node_lost", "message": "gone"}, "queued again", "node lost: gone"),
            ("state", {"state": "queued", "outcome": "preempted", "message": None}, "queued again", "preempted"),
            ("state", {"state": "failed", "outcome": "nan", "message": "nan; 3 times"}, "failed", "nan: nan; 3 times"),
            ("state", {"state": "failed", "reason": "dependency_failed"}, "failed", "dependency failed"),
            ("state", {"state": "succeeded", "outcome": "succeeded", "message": None}, "succeeded", ""),
            ("state", {"state": "succeeded", "reused_from": "job_1"}, "succeeded", "took over the outputs of job_1"),
            ("state", {"state": "paused", "outcome": "paused", "message": None}, "paused", ""),
            ("rolled_back", {}, "rolled back", "at step None: back at step None"),
            ("rolled_back", ROLLED_BACK, "rolled back", BACK),
            ("rolled_back", {**ROLLED_BACK, "rollbacks": 1, "max_rollbacks": 3}, "rolled back", f"{BACK}; {COUNTED}"),
            ("loss_spike", {"why": "the loss rose", "step": 8}, "loss spike", "the loss rose, at step 8"),
            ("checkpoint", {"step": 25, "path": "checkpoints/25"}, "saved", "a checkpoint at step 25"),
            ("asked_to_leave", {"reason": "preempted", "for_priority": 0}, "asked to leave", MORE_URGENT),
            ("asked_to_leave", {"reason": "drained", "worker": "a@b"}, "asked to leave", "drained: worker a@b is drained"),
            ("error", {"reason": "bad_data", "message": "line 9", "rank": 0}, "error", "bad data (rank 0): line 9"),
            ("checkpoints_removed", {"steps": [2, 4], "bytes": 9}, "checkpoints removed", "of steps 2, 4"),
            ("approved", {"by": "key_1", "comment": None}, "approved", "key_1"),
            ("approved", {"by": "key_1", "comment": "fine"}, "approved", "key_1: fine"),
            ("reused", {"job_id": "job_1"}, "outputs taken over", "of job_1"),
            ("run_folder_removed", {"host": "b"}, "run folder removed", "on b"),
            ("output", {"name": "model", "output_type": "model", "path": "outputs/model"}, "made", "model model"),
            ("ready", {"url": "http://127.0.0.1:1"}, "ready", "it answers requests"),
            ("phase", {"name": "load"}, "phase", "load"),
            ("half_time", {"score": 3, "rows": [1], "type": "other"}, "half time", "score 3"),
            ("unreadable", {"line": "<b>"}, "unreadable", "line <b>"),
        ],
    )  # fmt: skip
    def test_table(self, type_: str, data: dict[str, Any], what: str, why: str) -> None:
        assert narrate(type_, data) == Narration(what, why)

    @pytest.mark.parametrize("type_", TELLERS)
    @pytest.mark.parametrize("value", [None, [], {}, "x" * 9000, 0, ["a", 1]])
    def test_takes_whatever_a_recipe_made_up(self, type_: str, value: object) -> None:
        names = (
            "state",
            "reason",
            "message",
            "workers",
            "steps",
            "skipped_data_steps",
            "rollbacks",
            "name",
            "step",
            "for_priority",
        )
        told = narrate(type_, dict.fromkeys(names, value))
        assert max(len(told.what), len(told.why)) <= LONGEST

    def test_every_reason_to_hold_has_words(self) -> None:
        assert set(HELD_FOR) == set(HeldReason)

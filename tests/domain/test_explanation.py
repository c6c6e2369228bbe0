"""Every job can say why it is where it is, and what to do about it."""

from typing import Any

import pytest

from modelyard.domain.jobs.explanation import FIXES, Situation, explain
from modelyard.domain.jobs.lifecycle import JobState, Outcome
from modelyard.domain.jobs.tables import Attempt, Job


def job(**values: Any) -> Job:
    """A waiting fine-tuning job."""
    defaults = {"id": "job_1", "project_id": "mine", "name": "tuned", "kind": "finetune", "stage": "finetune", "state": "queued"}
    return Job(**{**defaults, "queue": "finetune.2gpu", "order_key": 0.0, "submitted_at": 0.0, **values})


OTHER = job(id="job_2", name="other", state="running", progress=0.5)
THEIRS = job(id="job_3", name="secret", project_id="theirs", state="running", progress=0.25)


class TestExplain:
    @pytest.mark.parametrize(
        ("situation", "reason", "says", "fix"),
        [
            (Situation(job()), "no_worker", "needs 2 GPUs in one worker", "--stages finetune --gpus"),
            (Situation(job(queue="prepare.1cpu")), "no_worker", "needs 1 CPU slots", "--stages prepare --slots 1"),
            (Situation(job(), serving=["w"]), "next", "served by w; it starts next", None),
            (Situation(job(), serving=["w"], running=[OTHER]), "no_free_slots", "Number 1 in the queue", "Wait"),
            (Situation(job(), serving=["w"], ahead=[OTHER]), "no_free_slots", "Number 2 in the queue", "Wait"),
            (Situation(job(not_before=12.0, message="broken"), now=2.0, serving=["w"]), "backoff", "Waits 10 s .*broken", None),
            (Situation(job(state="held", reason="dependency", message="Waits for a")), "dependency", "Waits for a", "Wait for"),
            (Situation(job(state="held", reason="traffic", message="Waits for 20")), "traffic", "Waits for 20", "Send requests"),
            (Situation(job(state="running", attempt=2, worker_id="w", progress=0.5)), None, "Attempt 2 runs on w: 50%", None),
            (Situation(job(state="failed", reason="nan", message="loss is NaN")), "nan", "failed: loss is NaN", "learning_rate"),
            (Situation(job(state="quarantined", reason="runner_lost")), "runner_lost", "quarantined", "ends its own runner"),
            (Situation(job(state="cancelled", reason="cancelled")), "cancelled", "is cancelled", None),
            (Situation(job(state="succeeded")), None, "is succeeded", None),
        ],
    )
    def test_table(self, situation: Situation, reason: str | None, says: str, fix: str | None) -> None:
        import re

        explanation = explain(situation)
        assert explanation.reason == reason
        assert re.search(says, explanation.summary)
        assert (explanation.fix is None) == (fix is None)
        assert fix is None or fix in str(explanation.fix)

    def test_names_who_is_before_it_but_not_of_other_projects(self) -> None:
        details = explain(Situation(job(), serving=["w"], ahead=[OTHER, THEIRS], running=[OTHER, THEIRS])).details
        assert "job_2 (other)" in details[0]
        assert all("secret" not in line and "job_3" not in line for line in details)
        assert details[1].endswith("a job of another project")

    def test_tells_its_history(self) -> None:
        attempts = [
            Attempt(id="a", job_id="job_1", seq=1, worker_id="w", outcome="node_lost", started_at=0.0),
            Attempt(id="b", job_id="job_1", seq=2, worker_id="x", resumed_from_step=40, started_at=0.0),
        ]
        assert explain(Situation(job(state="running"), attempts)).details == [
            "Attempt 1 on w: node_lost",
            "Attempt 2 on x: running (continued from step 40)",
        ]

    def test_says_that_it_was_asked_to_stop(self) -> None:
        assert (
            explain(Situation(job(state="pausing", stop_requested="paused")))
            .details[0]
            .startswith("It was asked to stop (paused)")
        )

    def test_shows_the_last_lines_of_a_failure(self) -> None:
        assert explain(Situation(job(state="failed", reason="user_code"), log_lines=["Traceback", "KeyError"])).log_lines == [
            "Traceback",
            "KeyError",
        ]

    @pytest.mark.parametrize("state", JobState)
    def test_every_state_has_a_sentence(self, state: JobState) -> None:
        explanation = explain(Situation(job(state=str(state))))
        assert (explanation.state, bool(explanation.summary)) == (state, True)

    def test_every_way_to_fail_has_a_fix(self) -> None:
        never_the_end = {Outcome.SUCCEEDED, Outcome.PAUSED, Outcome.DRAINED, Outcome.PREEMPTED}
        assert set(Outcome) - never_the_end <= set(FIXES)

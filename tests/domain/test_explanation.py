"""Every job can say why it is where it is, and what to do about it."""

import re
from typing import Any

import pytest

from modelyard.domain.jobs.explanation import explain
from modelyard.domain.jobs.fixes import FIXES
from modelyard.domain.jobs.lifecycle import JobState, Outcome
from modelyard.domain.jobs.prediction import Ahead, Occupied, Prediction
from modelyard.domain.jobs.situation import Kept, Server, Situation
from modelyard.domain.jobs.tables import Attempt, Job


def job(**values: Any) -> Job:
    """A waiting fine-tuning job."""
    defaults = {"id": "job_1", "project_id": "mine", "name": "tuned", "kind": "finetune", "stage": "finetune", "state": "queued"}
    return Job(**{**defaults, "queue": "finetune.2gpu", "order_key": 0.0, "submitted_at": 0.0, **values})


OTHER = job(id="job_2", name="other", state="running", progress=0.5)
LINE = [Ahead("finetune", 2)]
THEIRS = job(id="job_3", name="secret", project_id="theirs", state="running", progress=0.25)


W = Server("w@host", 2)
CLOSED = Server("w@host", 2, "it is being drained")


class TestExplain:
    @pytest.mark.parametrize(
        ("situation", "reason", "says", "fix"),
        [
            (Situation(job()), "no_worker", "needs 2 GPUs in one worker", "--stages finetune --gpus 0-1"),
            (Situation(job(queue="finetune.1gpu")), "no_worker", "needs 1 GPUs", "--stages finetune --gpus 0"),
            (Situation(job(queue="prepare.1cpu")), "no_worker", "needs 1 CPU slots", "--stages prepare --slots 1"),
            (Situation(job(queue="finetune.3x2gpu")), "no_worker", "2 GPUs in each of 3 workers", "--stages finetune --gpus"),
            (Situation(job(), servers=[W]), "next", "served by w@host; it starts next", None),
            (Situation(job(), servers=[W], holders=[OTHER]), "no_free_slots", "Number 1 in the queue", "Wait"),
            (Situation(job(), servers=[W], ahead=[OTHER], line=LINE), "no_free_slots", "Number 2 in the queue", "Wait"),
            (Situation(job(), servers=[W], line=LINE, line_is_longer=True), "no_free_slots", "Beyond number 2", "Wait"),
            (
                Situation(job(nodes=2), servers=[W], nodes_with_room=1),
                "gang",
                "once 2 of w@host have 1 slots.* 1 have",
                "start more",
            ),
            (
                Situation(job(nodes=2), servers=[W], lingering=["w@host"]),
                "gang",
                "last attempt on w@host is certainly",
                "start more",
            ),
            (Situation(job(), servers=[CLOSED]), "workers_closed", "w@host: it is being drained", "undrain"),
            (Situation(job(avoid_hosts=["host"]), servers=[W]), "workers_closed", "keeps away from host", "undrain"),
            (Situation(job(), servers=[CLOSED, Server("v@other")]), "next", "served by v@other; it starts next", None),
            (Situation(job(not_before=12.0, message="broken"), now=2.0, servers=[W]), "backoff", "Waits 10 s .*broken", "Wait"),
            (Situation(job(state="held", reason="dependency", message="Waits for a")), "dependency", "Waits for a", "Wait for"),
            (Situation(job(state="held", reason="traffic", message="Waits for 20")), "traffic", "Waits for 20", "Send requests"),
            (Situation(job(state="held", reason="quota", message="4 of 4")), "quota", "4 of 4", "raise its quota"),
            (Situation(job(state="held", reason="quota", message="4 of 4"), held_for="2 of 2"), "quota", "^2 of 2", "raise its"),
            (Situation(job(state="paused", reason="paused", message="Saved")), "paused", "paused: Saved", "modelyard resume"),
            (Situation(job(state="paused", reason="paused", pause_at_step=5)), "paused", "is paused", "sweep decides"),
            (Situation(job(state="running", attempt=2, worker_id="w", progress=0.5)), None, "Attempt 2 runs on w: 50%", None),
            (Situation(job(state="running", worker_id="w"), phase="save"), None, "runs on w: 0% .save.", None),
            (Situation(job(state="failed", reason="nan", message="loss is NaN")), "nan", "failed: loss is NaN", "learning_rate"),
            (Situation(job(state="quarantined", reason="runner_lost")), "runner_lost", "quarantined", "ends its own runner"),
            (Situation(job(state="cancelled", reason="cancelled")), "cancelled", "is cancelled", "modelyard retry"),
            (Situation(job(state="succeeded")), None, "is succeeded", None),
        ],
    )
    def test_table(self, situation: Situation, reason: str | None, says: str, fix: str | None) -> None:
        explanation = explain(situation)
        assert explanation.reason == reason
        assert re.search(says, explanation.summary), explanation.summary
        assert (explanation.fix is None) == (fix is None)
        assert fix is None or fix in str(explanation.fix)

    def test_says_for_whom_slots_are_kept(self) -> None:
        mine, theirs = job(), job(id="job_9", name="wide")
        kept = [Kept("w@host", 2, mine), Kept("v@host", 1, theirs)]
        assert explain(Situation(mine, servers=[W], kept=kept)).details == [
            "2 slots of w@host are kept free for this job",
            "1 slots of v@host are kept free for job_9 (wide)",
        ]

    def test_predicts_its_start_on_the_workers_that_take_it(self) -> None:
        busy = [Occupied("finetune", "w@host", 1, elapsed_seconds=30.0, progress=0.5)]
        one = Server("w@host", 1)
        explanation = explain(Situation(job(), servers=[one, Server("v@host", 4, "it is being drained")], occupied=busy))
        assert explanation.start == Prediction(30.0, 30.0, "from the progress of what runs")
        assert explain(Situation(job(), servers=[one], line=LINE, line_is_longer=True)).start.expected_seconds is None  # type: ignore[union-attr]

    def test_predicts_its_end(self) -> None:
        running = job(state="running", progress=0.25)
        mine = [Occupied("finetune", "w", 1, 30.0, 0.25, job_id="job_1")]
        assert explain(Situation(running, occupied=mine)).remaining_seconds == 90.0
        assert explain(Situation(running)).remaining_seconds is None

    def test_names_the_first_rank_that_failed(self) -> None:
        attempts = [Attempt(id="a", job_id="job_1", seq=1, worker_id="w", outcome="nccl", failing_rank=3, started_at=0.0)]
        assert explain(Situation(job(state="failed"), attempts)).details[0] == "The first rank that failed: 3"

    def test_names_who_is_before_it_but_not_of_other_projects(self) -> None:
        details = explain(Situation(job(), servers=[W], ahead=[OTHER, THEIRS], holders=[OTHER, THEIRS])).details
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

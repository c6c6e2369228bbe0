"""A sweep of real trainings: trials pause at rungs, the better half goes on from its checkpoints, the best is registered."""

import json
import signal
import subprocess
import sys

import psutil
import pytest
import yaml

from tests.engine.conftest import CORPUS, TINY, Document, Yard, wait_for

STEPS = 16
RATES = [1e-5, 3e-3, 1e-4, 1e-3]
SWEEP: Document = {
    "name": "rates",
    "job": {"spec": {**TINY, "steps": STEPS, "evaluate_every": 100, "save_every": 100, "deepspeed": {"zero_stage": 0}}},
    "parameters": {"spec.optimizer.learning_rate": {"type": "categorical", "choices": RATES}},
    "sampler": "grid",
    "trials": 4,
    "parallel": 2,
    "pruning": {"min_steps": 4, "reduction_factor": 2},
    "promote": "tiny-best",
}


def find_scheduler(yard: Yard) -> psutil.Process:
    """The scheduler of the platform."""
    return psutil.Process(yard.ready["pids"]["scheduler"])


class TestSweep:
    @pytest.mark.slow
    def test_four_trainings_on_two_rungs_through_the_deaths_of_scheduler_and_runner(self, yard: Yard) -> None:
        token = yard.folder / "token"
        yard.environment["MODELYARD_FAULT"] = f"outputs_after_store_before_report:kill:{token}"
        token.touch()
        yard.start_worker("work", "prepare,pretrain")
        yard.wait_for_state(yard.submit(CORPUS), "succeeded")
        token.unlink()  # the first runner that comes to report a pause is killed: the checkpoint is there, nobody was told
        file = yard.folder / "sweep.yaml"
        file.write_text(yaml.safe_dump(SWEEP))
        environment = {**yard.environment, "MODELYARD_URL": yard.ready["api_url"], "MODELYARD_API_KEY": yard.ready["api_key"]}
        command = [sys.executable, "-m", "modelyard.cli", "sweep", str(file), "--wait", "--timeout", "240", "--json"]
        waiting = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            wait_for(lambda: self.look(yard).get("waiting"), "a trial at its first rung")
            find_scheduler(yard).send_signal(signal.SIGKILL)
            said, complained = waiting.communicate(timeout=240)
        finally:
            waiting.kill()
        assert waiting.returncode == 0, complained
        self.check(yard, json.loads(said))

    def look(self, yard: Yard) -> Document:
        sweeps = yard.client.get("/v1/sweeps")["data"]
        return dict(sweeps[0]["trial_counts"]) if sweeps else {}

    def check(self, yard: Yard, sweep: Document) -> None:
        assert sweep["rungs"] == [4, 8]
        assert len(sweep["items"]) == 4
        best = sweep["items"][sweep["best"]]
        assert (best["state"], list(best["results"])) == ("finished", ["4", "8", "16"])
        values = {trial["number"]: trial["results"]["4"] for trial in sweep["items"]}
        assert sweep["best"] in sorted(values, key=lambda number: values[number])[:2]
        assert best["value"] == min(trial["results"]["16"] for trial in sweep["items"] if trial["state"] == "finished")
        lost = [self.check_trial(yard, trial) for trial in sweep["items"]]
        assert sorted(lost) == [0, 0, 0, 1]
        promoted = yard.client.get(f"/v1/models/{sweep['promoted']['id']}")
        assert (promoted["name"], promoted["version"], promoted["job_id"]) == ("tiny-best", 1, best["job_id"])

    def check_trial(self, yard: Yard, trial: Document) -> int:
        """How many attempts of a trial were lost; its steps and pauses are the same all the same."""
        done = max(int(step) for step in trial["results"])
        points = yard.client.get(f"/v1/jobs/{trial['job_id']}/metrics", name="loss", limit=5000)["data"]
        assert [point["step"] for point in points] == list(range(1, done + 1)), "each step was done once, in order"
        attempts = sorted(yard.rows(trial["job_id"], "attempts"), key=lambda attempt: attempt["seq"])
        rungs = [int(step) for step in trial["results"]]
        resumed = [attempt["resumed_from_step"] for attempt in attempts]
        assert list(dict.fromkeys(resumed)) == [None, *(rungs[:-1] or resumed[1:])], "each went on where it had paused"
        ending = "succeeded" if trial["state"] == "finished" else "paused"
        outcomes = [attempt["outcome"] for attempt in attempts]
        told = [outcome for outcome in outcomes if outcome not in {"runner_lost", "node_lost"}]
        assert told == [*["paused"] * (len(rungs) - 1), ending]
        return len(outcomes) - len(told)

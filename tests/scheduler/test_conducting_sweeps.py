"""A sweep from its first trial to its end, by rows: no trial twice, no step twice, whoever conducts it."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from factories import Factory
from sqlmodel import func, select
from sweep_runs import RATE, conduct_to_its_end, loss_of, make_sweep, run_jobs, trials_of

from modelyard.domain.jobs.stopping import cancel
from modelyard.domain.jobs.tables import Attempt, Job, MetricPoint
from modelyard.domain.projects.tables import Project
from modelyard.domain.registry.tables import Model
from modelyard.domain.sweeps.conduct import Outrun, carry_out
from modelyard.domain.sweeps.decisions import Create, decide
from modelyard.domain.sweeps.service import cancel_sweep, pause_sweep, resume_sweep
from modelyard.domain.sweeps.situation import inquire
from modelyard.domain.sweeps.tables import Sweep
from modelyard.domain.usage.tables import UsageEntry
from modelyard.kit.database import Database
from modelyard.scheduler.sweeps import conduct_sweeps

CONDUCT = """
import sys
from modelyard.kit.database import Database
from modelyard.scheduler.sweeps import conduct_sweeps
conduct_sweeps(Database(sys.argv[1]))
"""


def change(factory: Factory, sweep: Sweep, wish: Any) -> None:
    """What a user asks of a sweep."""
    with factory.database.write() as session:
        wish(session, session.get_one(Sweep, sweep.id))


def states_of(factory: Factory, sweep: Sweep) -> list[str]:
    return [trial.state for trial in trials_of(factory, sweep)]


class TestConduct:
    def test_the_best_quarter_goes_on_and_no_step_is_done_twice(self, factory: Factory) -> None:
        sweep = conduct_to_its_end(factory, make_sweep(factory, trials=6))
        trials = trials_of(factory, sweep)
        assert (sweep.state, sweep.message, len(trials)) == ("succeeded", None, 6)
        losses = {trial.number: loss_of(factory.get(Job, trial.job_id).spec, 10) for trial in trials}
        finished = [trial for trial in trials if trial.state == "finished"]
        assert sweep.best == min(losses, key=lambda number: losses[number])
        assert sweep.best in {trial.number for trial in finished}
        assert {trial.state for trial in trials} == {"finished", "stopped"}
        assert 1 <= len(finished) <= 4
        for trial in trials:
            job = factory.get(Job, trial.job_id)
            steps = [point.step for point in factory.find(select(MetricPoint).where(MetricPoint.job_id == job.id))]
            done = max(int(step) for step in trial.results)
            assert sorted(set(steps)) == list(range(1, done + 1))
            assert len([step for step in steps if steps.count(step) > 2]) == 0, "a step was done twice"
            assert job.state == ("succeeded" if trial.state == "finished" else "cancelled")
            assert job.name == f"search-{trial.number}"
            # Each rung is one attempt: it holds no slot while it waits.
            assert len(factory.find(select(Attempt).where(Attempt.job_id == job.id))) == len(trial.results)

    def test_the_best_is_registered_under_its_name(self, factory: Factory) -> None:
        sweep = conduct_to_its_end(factory, make_sweep(factory))
        best = factory.get(Job, trials_of(factory, sweep)[sweep.best or 0].job_id)
        (model,) = factory.find(select(Model).where(Model.name == "best"))
        assert sweep.promoted == {"type": "model", "id": model.id, "name": "best", "version": 1}
        assert (model.artifact_key, model.job_id) == (f"model/{best.id}", best.id)
        assert model.details == {"sweep": sweep.id, "trial": sweep.best}

    def test_all_train_on_what_was_there_when_it_was_made(self, factory: Factory) -> None:
        sweep = make_sweep(factory)
        conduct_sweeps(factory.database)
        factory.registered(content="b")
        conduct_to_its_end(factory, sweep)
        jobs = factory.find(select(Job))
        assert len(jobs) == 4
        assert {job.inputs["dataset"]["version"] for job in jobs} == {1}

    def test_a_sweep_over_datasets_names_each(self, factory: Factory) -> None:
        factory.registered(name="other")
        both = {"spec.dataset": {"type": "categorical", "choices": ["corpus", "other"]}}
        conduct_to_its_end(factory, make_sweep(factory, parameters=both, sampler="grid", pruning=None, trials=9))
        assert sorted(job.inputs["dataset"]["name"] for job in factory.find(select(Job))) == ["corpus", "other"]

    def test_nan_and_failures_lose(self, factory: Factory) -> None:
        def mostly_nan(spec: Any, step: int) -> float:
            return 1.0 if spec["optimizer"]["learning_rate"] == 0.2 else float("nan")

        rates = {RATE: {"type": "categorical", "choices": [0.1, 0.2, 0.3]}}
        sweep = make_sweep(factory, parameters=rates, sampler="grid", trials=3)
        sweep = conduct_to_its_end(factory, sweep, mostly_nan)
        assert (sweep.state, sweep.best) == ("succeeded", 1)
        assert states_of(factory, sweep) == ["stopped", "finished", "stopped"]
        assert trials_of(factory, sweep)[0].results == {"10": None}

    def test_a_metric_nobody_reports_is_said_soon(self, factory: Factory) -> None:
        sweep = conduct_to_its_end(factory, make_sweep(factory, metric="bleu", trials=50))
        assert sweep.state == "failed"
        assert (
            sweep.message == "the first 4 trials failed: it reported no metric 'bleu' there; set `metric` to one that it reports"
        )
        assert {job.state for job in factory.find(select(Job))} == {"cancelled"}
        assert len(factory.find(select(Job))) <= 4

    def test_a_trial_somebody_cancels_makes_room(self, factory: Factory) -> None:
        sweep = make_sweep(factory, parallel=1, pruning=None)
        conduct_sweeps(factory.database)
        with factory.database.write() as session:
            cancel(session, session.get_one(Job, trials_of(factory, sweep)[0].job_id))
        sweep = conduct_to_its_end(factory, sweep)
        assert (sweep.state, states_of(factory, sweep)) == ("succeeded", ["stopped", *["finished"] * 3])

    def test_a_full_line_only_delays(self, factory: Factory) -> None:
        sweep = make_sweep(factory, pruning=None, parallel=3)
        with factory.database.write() as session:
            session.get_one(Project, factory.project_id).max_queued_jobs = 1
        conduct_sweeps(factory.database)
        assert len(trials_of(factory, sweep)) == 1
        assert conduct_to_its_end(factory, sweep).state == "succeeded"
        assert states_of(factory, sweep) == ["finished"] * 4


class TestWishes:
    def test_pausing_pauses_its_trials_and_resuming_lets_them_go_on(self, factory: Factory) -> None:
        sweep = make_sweep(factory)
        conduct_sweeps(factory.database)
        change(factory, sweep, pause_sweep)
        assert {job.state for job in factory.find(select(Job))} == {"paused"}
        assert run_jobs(factory) == 0
        conduct_sweeps(factory.database)
        assert len(trials_of(factory, sweep)) == 2
        change(factory, sweep, resume_sweep)
        assert conduct_to_its_end(factory, sweep).state == "succeeded"

    def test_cancelling_ends_what_runs_and_keeps_the_best(self, factory: Factory) -> None:
        sweep = make_sweep(factory)
        conduct_sweeps(factory.database)
        run_jobs(factory)
        conduct_sweeps(factory.database)
        change(factory, sweep, cancel_sweep)
        conduct_sweeps(factory.database)
        sweep = factory.get(Sweep, sweep.id)
        assert sweep.state == "cancelled"
        assert sweep.best is not None
        assert {job.state for job in factory.find(select(Job))} == {"cancelled"}
        assert {job.stop_requested for job in factory.find(select(Job))} == {None}, "checkpoints are kept"

    def test_used_up_hours_end_it_with_the_best_so_far(self, factory: Factory) -> None:
        sweep = make_sweep(factory, max_gpu_hours=0.5, parallel=1)
        conduct_sweeps(factory.database)
        run_jobs(factory)
        with factory.database.write() as session:  # as if the first attempt had taken an hour
            attempt = session.exec(select(Attempt)).one()
            entry = session.exec(select(UsageEntry)).one()
            entry.started_at = entry.finished_at - 3600
            assert entry.attempt_id == attempt.id
        conduct_sweeps(factory.database)
        sweep = factory.get(Sweep, sweep.id)
        assert (sweep.state, sweep.best, states_of(factory, sweep)) == ("succeeded", 0, ["stopped"])
        job = factory.find(select(Job))[0]
        assert (job.state, job.stop_requested) == ("cancelled", None)
        assert sweep.message == (
            "the sweep used 1 of 0.5 GPU-hours; trial 0 is the best, but made nothing to promote: "
            f"`modelyard retry {job.id}` finishes it"
        )


class TestSeveralSchedulers:
    def test_make_each_trial_once(self, factory: Factory, database_url: str) -> None:
        sweep = make_sweep(factory, trials=12, parallel=6)
        together = Barrier(2)

        def conduct(_: int) -> None:
            database = Database(database_url)
            together.wait()
            for _ in range(3):
                conduct_sweeps(database)
            database.dispose()

        with ThreadPoolExecutor(2) as schedulers:
            list(schedulers.map(conduct, range(2)))
        trials = trials_of(factory, sweep)
        assert [trial.number for trial in trials] == list(range(6))
        assert {trial.job_id for trial in trials} == {job.id for job in factory.find(select(Job))}
        assert factory.get(Sweep, sweep.id).revision == 6

    def test_what_was_decided_on_older_facts_changes_nothing(self, factory: Factory) -> None:
        sweep = make_sweep(factory)
        with factory.database.read() as session:
            before = inquire(session, session.get_one(Sweep, sweep.id))
        decided = decide(before.sweep, before.trials)
        assert decided == Create(0, 10)
        change(factory, sweep, pause_sweep)
        with pytest.raises(Outrun, match="changed meanwhile"), factory.database.write() as session:
            carry_out(session, sweep.id, before.revision, decided, {RATE: 0.1})
        assert trials_of(factory, sweep) == factory.find(select(Job)) == []

    @pytest.mark.parametrize("point", ["sweep_before_commit", pytest.param("sweep_between_actions", marks=pytest.mark.slow)])
    def test_one_that_is_killed_is_taken_over(self, factory: Factory, database_url: str, tmp_path: Path, point: str) -> None:
        sweep = make_sweep(factory)
        faults = {"MODELYARD_FAULT": f"{point}:kill:{tmp_path / 'token'}"}
        command = [sys.executable, "-c", CONDUCT, database_url]
        done = subprocess.run(command, env={**os.environ, **faults}, capture_output=True, timeout=60)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert len(trials_of(factory, sweep)) == (point == "sweep_between_actions")
        conduct_sweeps(factory.database)
        assert [trial.number for trial in trials_of(factory, sweep)] == [0, 1]
        assert factory.find(select(func.count()).select_from(Job)) == [2]
        assert conduct_to_its_end(factory, sweep).state == "succeeded"

    def test_the_choices_do_not_depend_on_who_makes_them(self, factory: Factory) -> None:
        whole = conduct_to_its_end(factory, make_sweep(factory, sampler="tpe", trials=11, parallel=1, pruning=None))
        again = conduct_to_its_end(factory, make_sweep(factory, sampler="tpe", trials=11, parallel=1, pruning=None))
        chosen = [[trial.parameters for trial in trials_of(factory, sweep)] for sweep in (whole, again)]
        assert chosen[0] == chosen[1]

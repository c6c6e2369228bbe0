"""Metrics in other trackers: TensorBoard's files as TensorBoard reads them, and trackers that fail."""

import json
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from modelyard.domain.specs.finetuning import FinetuneSpec
from modelyard.workers.recipe import BadData, Run
from modelyard.workers.training import reporters
from modelyard.workers.training.reporters import report_elsewhere


@pytest.fixture(autouse=True)
def no_trackers_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that names no tracker, and forgets what the run puts into it."""
    for name in ("TENSORBOARD_LOGGING_DIR", "WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def run_in(folder: Path, *report_to: str, rank: int = 0) -> Run[FinetuneSpec]:
    """A run that reports elsewhere."""
    reporting: Any = {"report_to": list(report_to)}
    folder.mkdir(parents=True)
    return Run(FinetuneSpec(name="tuned", model="m", dataset="d", reporting=reporting), folder, {}, rank=rank)


def read_scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Tag -> step -> value of the only event file below a folder."""
    (file,) = folder.rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file))
    events.Reload()
    return {tag: {point.step: point.value for point in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def report(run: Run[FinetuneSpec]) -> None:
    """Say what two steps came to."""
    report_elsewhere(run)
    run.metrics(1, loss=2.5, learning_rate=0.25)
    run.metrics(2, loss=2.0)
    run.metrics(2, validation_loss=2.25)
    if run.listener is not None:
        run.listener.close()


class TestTensorBoard:
    def test_reads_every_step(self, tmp_path: Path) -> None:
        report(run_in(tmp_path / "job_1" / "1", "tensorboard"))
        found = read_scalars(tmp_path)
        assert found == {"train/loss": {1: 2.5, 2: 2.0}, "train/learning_rate": {1: 0.25}, "eval/loss": {2: 2.25}}

    def test_runs_that_share_a_folder_stay_apart(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
        for job in ("job_1", "job_2"):
            report(run_in(tmp_path / "runs" / job / "1", "tensorboard"))
        assert sorted(path.name for path in (tmp_path / "board").iterdir()) == ["tuned-job_1-1", "tuned-job_2-1"]

    def test_other_ranks_are_silent(self, tmp_path: Path) -> None:
        run = run_in(tmp_path / "job_1" / "1", "tensorboard", rank=1)
        report(run)
        assert run.listener is None

    @pytest.mark.slow
    def test_follows_a_real_training(
        self, tiny_model: Path, chat_dataset: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]
    ) -> None:
        ranks = ranks_in(tmp_path / "run")
        assert ranks.run("sft", document(tiny_model, chat_dataset, "tensorboard"), ranks=2) == [0, 0], ranks.logs
        found = read_scalars(ranks.folder)
        assert found["train/loss"] == pytest.approx(ranks.metric("loss"))
        assert found["eval/loss"] == pytest.approx(ranks.metric("validation_loss"))


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestOptionalTrackers:
    """Each in a process of its own, as in a job: they keep state and threads. Skipped where the package is missing."""

    def test_mlflow_has_every_step(
        self, tiny_model: Path, chat_dataset: Path, tmp_path: Path, recipe: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if find_spec("mlflow") is None:
            pytest.skip("mlflow is not installed; pip install 'modelyard[reporters]', or mlflow-skinny")
        store = f"sqlite:///{tmp_path / 'mlflow.db'}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
        train(recipe, document(tiny_model, chat_dataset, "mlflow"))
        from mlflow.tracking import MlflowClient

        client = MlflowClient(store)
        experiment = client.get_experiment_by_name("modelyard")
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.status == "FINISHED"
        assert run.data.params["precision"] == "fp32"
        losses = {event["step"]: event["values"]["loss"] for event in recipe.events("metric") if "loss" in event["values"]}
        assert {point.step: point.value for point in client.get_metric_history(run.info.run_id, "loss")} == losses

    def test_wandb_keeps_a_run_offline(
        self, tiny_model: Path, chat_dataset: Path, tmp_path: Path, recipe: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if find_spec("wandb") is None:
            pytest.skip("wandb is not installed; pip install 'modelyard[reporters]'")
        monkeypatch.setenv("WANDB_MODE", "offline")
        monkeypatch.setenv("WANDB_DIR", str(tmp_path))
        train(recipe, document(tiny_model, chat_dataset, "wandb"))
        (kept,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
        content = kept.read_bytes()
        assert b"train/loss" in content
        assert b"eval/loss" in content

    def test_trackio_has_every_step(
        self, tiny_model: Path, chat_dataset: Path, tmp_path: Path, recipe: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if find_spec("trackio") is None:
            pytest.skip("trackio is not installed; pip install 'modelyard[reporters]'")
        monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
        train(recipe, document(tiny_model, chat_dataset, "trackio"))
        with closing(connect(tmp_path / "trackio" / "modelyard.db")) as kept:
            points = [json.loads(values) for (values,) in kept.execute("SELECT metrics FROM metrics ORDER BY id")]
        losses = {event["step"]: event["values"]["loss"] for event in recipe.events("metric") if "loss" in event["values"]}
        assert {point["train/global_step"]: point["train/loss"] for point in points if "train/loss" in point} == losses


class TestTrackersThatFail:
    def test_one_that_cannot_write_is_left_and_named_without_its_address(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "secret").write_text("no folder")
        monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "secret"))
        run = run_in(tmp_path / "job_1" / "1", "tensorboard")
        report(run)
        said = capsys.readouterr().err
        assert "tensorboard takes no more reports" in said
        assert "secret" not in said
        assert (run.folder / "events.jsonl").read_text().count('"metric"') == 3

    def test_one_that_is_not_installed_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reporters, "find_spec", lambda name: None if name == "wandb" else object())
        with pytest.raises(BadData, match=r"report_to: wandb is not installed on this worker; pip install wandb"):
            report_elsewhere(run_in(tmp_path / "job_1" / "1", "tensorboard", "wandb"))


def train(recipe: Any, document: dict[str, Any]) -> None:
    """Tune to the end, and see that no tracker was left."""
    process = recipe.start("training.recipes.sft", document)
    log, _ = process.communicate(timeout=600)
    assert process.returncode == 0, log
    assert "takes no more reports" not in log


def document(model: Path, dataset: Path, *report_to: str) -> dict[str, Any]:
    """A short tuning."""
    spec = {"kind": "finetune", "name": "t", "model": "m", "dataset": "d", "sequence_length": 32, "micro_batch_size": 2}
    short = {"steps": 2, "evaluate_every": 2, "save_every": 2, "reporting": {"report_to": list(report_to)}}
    return {"spec": {**spec, **short}, "inputs": {"model": {"path": str(model)}, "dataset": {"path": str(dataset)}}}

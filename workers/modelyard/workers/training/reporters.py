"""Reporting to other trackers, by the callbacks transformers has for them, in a thread of its own.

A tracker that is slow or away costs the training nothing: what it misses is in the platform's own curves.
"""

import json
import os
import queue
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from modelyard.domain.specs.reporting import ReportingSpec
from modelyard.workers.recipe import BadData, Run

CALLBACKS = {
    "tensorboard": "TensorBoardCallback",
    "mlflow": "MLflowCallback",
    "trackio": "TrackioCallback",
    "wandb": "WandbCallback",
}
"""Name of a package -> its callback in `transformers.integrations`."""
DEFAULT_PROJECT = "modelyard"
CLOSE_SECONDS = 60.0
"""How long the end of a run waits for trackers."""


@dataclass(frozen=True)
class Arguments:
    """What the callbacks ask of the trainer's arguments; their settings are this run's spec, not a trainer's."""

    settings: Mapping[str, Any]
    run_name: str
    output_dir: str
    project: str
    hub_private_repo: None = None
    trackio_space_id: None = None
    trackio_bucket_id: None = None
    trackio_static_space_id: bool = False
    load_best_model_at_end: bool = False

    def to_dict(self) -> dict[str, Any]:
        """What the tracker shows as the run's parameters."""
        return dict(self.settings)

    def to_json_string(self) -> str:
        """The same as text."""
        return json.dumps(self.settings, indent=2)


def check_reporters(spec: ReportingSpec) -> None:
    """Raise `BadData` for a tracker whose package is missing here."""
    missing = [name for name in spec.report_to if find_spec(name) is None]
    if missing:
        raise BadData(
            f"reporting.report_to: {', '.join(missing)} is not installed on this worker; "
            f"pip install {' '.join(missing)} there, or leave it out"
        )


def report_elsewhere(run: Run[Any]) -> None:
    """From now on pass the run's metrics on to the trackers its spec names; on rank 0. Raises `BadData`."""
    spec = run.spec.reporting
    check_reporters(spec)
    if run.rank == 0 and spec.report_to:
        reports = Reports(run, spec)
        reports.start()
        run.listener = reports


class Reports(threading.Thread):
    """Hands metrics to the callbacks in the order they came."""

    def __init__(self, run: Run[Any], spec: ReportingSpec) -> None:
        super().__init__(name="reports", daemon=True)
        label = "-".join((run.spec.name, *run.folder.parts[-2:]))
        self._names = list(spec.report_to)
        settings, project = run.spec.model_dump(mode="json"), spec.project or DEFAULT_PROJECT
        self._arguments = Arguments(settings, label, str(run.folder / "reports"), project)
        for variable in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
            if spec.project or variable not in os.environ:
                os.environ[variable] = project
        self._queue: queue.SimpleQueue[tuple[int, dict[str, float]] | None] = queue.SimpleQueue()

    def hear(self, step: int, values: Mapping[str, float]) -> None:
        """Take the metrics of a step; returns at once."""
        self._queue.put((step, {_rename(name): value for name, value in values.items()}))

    def close(self) -> None:
        """Wait until all is passed on, but not for long."""
        self._queue.put(None)
        self.join(CLOSE_SECONDS)

    def run(self) -> None:
        """Pass on until told that no more will come."""
        state = SimpleNamespace(is_world_process_zero=True, is_hyper_param_search=False, global_step=0, trial_name=None)
        state.logging_steps, state.epoch, state.total_flos = 1, None, 0
        open_ones = {name: callback for name in self._names if (callback := self._open(name, state)) is not None}
        for step, values in iter(self._queue.get, None):
            state.global_step = step
            for name, callback in list(open_ones.items()):
                if not self._call(name, callback.on_log, state, logs=dict(values)):
                    del open_ones[name]
        for name, callback in open_ones.items():
            self._call(name, callback.on_train_end, state)

    def _open(self, name: str, state: Any) -> Any:
        try:
            from transformers import integrations

            callback = getattr(integrations, CALLBACKS[name])()
        except Exception as error:  # each tracker has errors of its own
            return _complain(name, error)
        if name == "tensorboard":  # runs that share a folder stay apart in it
            folder = Path(callback.logging_dir or self._arguments.output_dir)
            callback.logging_dir = str(folder / self._arguments.run_name)
        return callback if self._call(name, callback.on_train_begin, state) else None

    def _call(self, name: str, action: Any, state: Any, **values: Any) -> bool:
        try:
            action(self._arguments, state, None, model=None, **values)
        except Exception as error:
            _complain(name, error)
            return False
        return True


def _rename(metric: str) -> str:
    # The callbacks put what begins with `eval_` apart from what was trained on.
    return metric.replace("validation_", "eval_", 1) if metric.startswith("validation_") else metric


def _complain(name: str, error: Exception) -> None:
    # Not the error's text: it may hold an address with a password.
    print(f"{name} takes no more reports: {type(error).__name__}", file=sys.stderr, flush=True)  # noqa: T201 - the recipe's log

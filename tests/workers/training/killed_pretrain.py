"""The recipe of pre-training, killed without warning at the moment a step has been reported: KILL_AFTER_STEP says which."""

import os
import signal
from typing import Any

from modelyard.workers.recipe import Run
from modelyard.workers.training.recipes import pretrain


def main(run: Run[Any]) -> None:
    """Run the recipe until the step is done; what was being written then stays half written."""
    report = run.metrics

    def report_and_die(step: int, **values: float) -> None:
        report(step, **values)
        if "loss" in values and step == int(os.environ["KILL_AFTER_STEP"]):
            os.kill(os.getpid(), signal.SIGKILL)

    run.metrics = report_and_die  # type: ignore[method-assign]
    pretrain.main(run)

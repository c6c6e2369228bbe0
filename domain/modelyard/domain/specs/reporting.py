"""Where else the metrics of a training go."""

from typing import Literal

from modelyard.domain.specs.base import SpecModel

Reporter = Literal["tensorboard", "mlflow", "trackio", "wandb"]


class ReportingSpec(SpecModel):
    """Trackers that follow a training. Their addresses and keys come from the worker's environment, never from a spec."""

    report_to: list[Reporter] = []
    """Each needs its package on the worker; the platform's own curves need none."""
    project: str | None = None
    """The tracker's project or experiment; default: what the worker's environment says, else `modelyard`."""

"""A sweep as drawings: how the best grew better, and the metric over each parameter. Pure."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

from modelyard.api.dashboard.charts import Chart
from modelyard.api.dashboard.formatting import show_label, show_value
from modelyard.api.sweeps.schemas import SweepDetail, TrialPublic


def chart_trials(sweep: SweepDetail) -> list[Chart]:
    """The chart of the best so far, then one per parameter that is a number; none before the first value."""
    valued = [trial for trial in sweep.items if trial.value is not None]
    return [_chart_best(sweep, valued), *_chart_parameters(sweep, valued)] if valued else []


def _chart_best(sweep: SweepDetail, valued: Sequence[TrialPublic]) -> Chart:
    values = [float(trial.value or 0.0) for trial in valued]
    best = list(accumulate(values, min if sweep.direction == "minimize" else max))
    caption = f"{show_value(best[-1])} after {len(valued)} trials, each at the furthest step it came to"
    title = f"{show_label(sweep.metric)} by trial"
    numbers = [float(trial.number) for trial in valued]
    return Chart(title, ["value", "best so far"], [[*numbers], [*values], [*best]], caption, x_label="trial")


def _chart_parameters(sweep: SweepDetail, valued: Sequence[TrialPublic]) -> Iterator[Chart]:
    for place, parameter in sweep.parameters.items():
        chosen = [trial.parameters.get(place) for trial in valued]
        points = sorted((x, float(trial.value or 0.0)) for x, trial in zip(chosen, valued, strict=True) if _is_number(x))
        if points:
            name = show_label(place.rpartition(".")[2])
            data: list[list[float | None]] = [[x for x, _ in points], [y for _, y in points]]
            caption = f"{len(points)} trials between {show_value(points[0][0])} and {show_value(points[-1][0])}"
            is_log = bool(parameter.get("log"))
            yield Chart(
                f"{show_label(sweep.metric)} over {name}", [show_label(sweep.metric)], data, caption, False, name, True, is_log
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

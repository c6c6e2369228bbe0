"""The pure parts: curves, charts, graph, figures, formatting."""

import math

import pytest
from dashboard_yard import Yard, metric, prepare

from modelyard.api.dashboard.charts import join, make_charts
from modelyard.api.dashboard.deployments import measure_service
from modelyard.api.dashboard.formatting import page_of_id, show_bytes, show_duration, show_value, show_without_ids
from modelyard.api.dashboard.graph import find_levels
from modelyard.domain.deployments.tables import Interaction
from modelyard.domain.jobs.curves import Curve, read_curves
from modelyard.domain.jobs.lifecycle import Outcome


class TestReadCurves:
    def test_a_long_curve_is_thinned_and_keeps_its_spike(self, yard: Yard) -> None:
        job = yard.submit(prepare("long"))
        attempt = yard.begin(job)
        yard.report(job, attempt, *[metric(step, loss=50.0 if step == 7777 else 1.0) for step in range(10_000)])
        with yard.platform.database.read() as session:
            [curve] = read_curves(session, job.id)
        yard.end(job, attempt)
        assert curve.reported == 10_000
        assert 1000 <= len(curve.points) <= 2000
        assert max(value for _, value in curve.points) == 50.0
        steps = [step for step, _ in curve.points]
        assert steps == sorted(set(steps))
        assert (steps[0], steps[-1]) == (0, 9999)

    def test_a_resumed_attempt_replaces_what_it_repeats(self, yard: Yard) -> None:
        job = yard.submit(prepare("resumed"))
        attempt = yard.begin(job)
        yard.report(job, attempt, *[metric(step, loss=1.0) for step in range(4)])
        yard.end(job, attempt, Outcome.DRAINED)
        attempt = yard.begin(job)
        yard.report(job, attempt, *[metric(step, loss=2.0) for step in range(2, 6)])
        with yard.platform.database.read() as session:
            [curve] = read_curves(session, job.id)
        yard.end(job, attempt)
        assert curve.points == [(0, 1.0), (1, 1.0), (2, 2.0), (3, 2.0), (4, 2.0), (5, 2.0)]

    def test_values_that_are_not_finite_are_counted(self, yard: Yard) -> None:
        job = yard.submit(prepare("nan"))
        attempt = yard.begin(job)
        yard.report(job, attempt, metric(1, loss=1.0), metric(2, loss=math.nan))
        with yard.platform.database.read() as session:
            curves = read_curves(session, job.id)
        yard.end(job, attempt)
        assert curves[0].points == [(1, 1.0)]
        assert "1 of 2 values were not finite" in make_charts(curves)[0].caption


class TestMakeCharts:
    def test_train_and_validation_share_a_chart_and_loss_comes_first(self) -> None:
        names = ["gradient_norm", "loss", "validation_loss", "validation_perplexity"]
        charts = make_charts([Curve(name, [(1, 2.0)], 1, 0, 2.0, 2.0) for name in names])
        labels = {chart.title: chart.labels for chart in charts}
        assert labels == {
            "loss": ["train", "validation"],
            "gradient norm": ["gradient norm"],
            "validation perplexity": ["validation perplexity"],
        }
        assert charts[0].title == "loss"

    def test_ranks_share_a_chart_and_what_was_learned_comes_before_what_it_cost(self) -> None:
        names = [
            "fastest_forward_seconds",
            "mfu",
            "peak_memory_bytes",
            "slowest_forward_seconds",
            "smallest_peak_memory_bytes",
            "z",
        ]
        charts = make_charts([Curve(name, [(1, 2.0)], 1, 0, 2.0, 2.0) for name in names])
        assert [(chart.title, chart.labels) for chart in charts] == [
            ("z", ["z"]),
            ("forward seconds", ["fastest rank", "slowest rank"]),
            ("mfu", ["mfu"]),
            ("peak memory bytes", ["largest of a rank", "smallest of a rank"]),
        ]

    def test_curves_share_one_axis(self) -> None:
        assert join([[(1, 10.0), (3, 30.0)], [(2, 20.0)]]) == [[1, 2, 3], [10.0, None, 30.0], [None, 20.0, None]]


class TestFindLevels:
    def test_a_step_stands_right_of_all_it_needs(self) -> None:
        needs = {"deploy": ["tune", "gate"], "tune": ["base"], "gate": ["tune"], "base": []}
        assert find_levels(needs) == {"base": 0, "tune": 1, "gate": 2, "deploy": 3}


class TestMeasureService:
    def test_failures_count_and_do_not_time(self) -> None:
        rows = [
            Interaction(id=str(n), deployment_id="d", status=500 if n == 0 else 200, latency_seconds=float(n), created_at=0.0)
            for n in range(21)
        ]
        service = measure_service(rows)
        assert (service.measured, service.failed) == (21, 1)
        assert (service.median_latency, service.slow_latency) == (10.5, 19.0)

    def test_nothing_measured_is_said_as_nothing(self) -> None:
        assert measure_service([]).median_latency is None


class TestFormat:
    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (None, "–"), (True, "yes"), (0.0004, "4.00e-04"), (2.34567, "2.346"), (1234.5, "1\u202f234"), (3.0, "3"),
            (math.inf, "inf"), (["a", 1], "a, 1"), ([{"a": 1}], '[{"a": 1}]'), ("text", "text"),
        ],
    )  # fmt: skip
    def test_values(self, value: object, shown: str) -> None:
        assert show_value(value) == shown

    @pytest.mark.parametrize(
        ("seconds", "shown"), [(None, ""), (0.25, "0.2 s"), (59.7, "1 min 0 s"), (3700, "1 h 1 min"), (200_000, "2 d 7 h")]
    )
    def test_durations(self, seconds: float | None, shown: str) -> None:
        assert show_duration(seconds) == shown

    def test_ids_lead_to_pages(self) -> None:
        digits = "0" * 32
        assert page_of_id(f"mdl_{digits}") == f"/models/mdl_{digits}"
        assert page_of_id(f"mon_{digits}") == f"/reports/mon_{digits}"
        assert page_of_id(f"job_{digits}") == f"/jobs/job_{digits}"
        assert [page_of_id(other) for other in (f"key_{digits}", "mdl_short", 7, "text")] == [None] * 4

    def test_ids_in_brackets_are_left_out(self) -> None:
        assert show_without_ids(f"Waits for base (job_{'0' * 32}, held)") == "Waits for base (held)"

    def test_bytes(self) -> None:
        assert [show_bytes(512), show_bytes(1536), show_bytes(269 * 2**20)] == ["512 B", "1.5 KiB", "269 MiB"]

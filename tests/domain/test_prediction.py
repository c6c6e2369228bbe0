"""When a waiting job will start: a table, and what must hold for any line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.domain.jobs.prediction import Ahead, Occupied, Past, predict_start, summarize

PAST = {"prepare": Past(60.0, 40.0, 12), "pretrain": Past(600.0, 500.0, 1)}


def running(kind: str = "prepare", worker: str = "w", slots: int = 1, elapsed: float = 0.0, **more: object) -> Occupied:
    return Occupied(kind, worker, slots, elapsed, **more)  # type: ignore[arg-type]


class TestPredictStart:
    @pytest.mark.parametrize(
        ("slots", "workers", "now_running", "ahead", "expected", "earliest", "basis"),
        [
            (1, {"w": 1}, [], [], 0.0, 0.0, "slots are free now"),
            (1, {"w": 1}, [running(elapsed=20.0)], [], 40.0, 20.0, "from 12 past runs of prepare"),
            (1, {"w": 1}, [running(elapsed=90.0)], [], 0.0, 0.0, "from 12 past runs of prepare"),
            (1, {"w": 1}, [running(elapsed=30.0, progress=0.25)], [], 90.0, 90.0, "from the progress of what runs"),
            (1, {"w": 1}, [], [Ahead("prepare", 1)], 60.0, 40.0, "from 12 past runs of prepare"),
            (1, {"w": 1}, [], [Ahead("prepare", 1), Ahead("pretrain", 1)], 660.0, 540.0, "12 past runs of prepare and one past"),
            (1, {"w": 2}, [], [Ahead("prepare", 1)], 0.0, 0.0, "prepare"),
            (2, {"w": 2}, [], [Ahead("prepare", 1)], 60.0, 40.0, "prepare"),
            # One worker is busy for long, the other is free sooner.
            (1, {"v": 1, "w": 1}, [running("pretrain", "v"), running()], [], 60.0, 40.0, "pretrain"),
            # Two slots of two workers are not two slots of one.
            (2, {"v": 1, "w": 1}, [], [], None, None, "services"),
            (1, {"w": 1}, [running("deploy", never_ends=True)], [], None, None, "services, which end only when"),
            (1, {"w": 2}, [running("deploy", never_ends=True)], [], 0.0, 0.0, "slots are free now"),
            (1, {}, [], [], None, None, "no online worker"),
            (1, {"w": 1}, [running("evaluate")], [], None, None, "no run of evaluate has succeeded"),
            (1, {"w": 1}, [running("evaluate", elapsed=10.0, progress=0.5)], [], 10.0, 10.0, "progress"),
            (1, {"w": 1}, [running("pretrain", "elsewhere")], [], 0.0, 0.0, "pretrain"),
        ],
    )
    def test_table(
        self,
        slots: int,
        workers: dict[str, int],
        now_running: list[Occupied],
        ahead: list[Ahead],
        expected: float | None,
        earliest: float | None,
        basis: str,
    ) -> None:
        prediction = predict_start(slots, workers, now_running, ahead, PAST)
        assert prediction.expected_seconds == pytest.approx(expected)
        assert prediction.earliest_seconds == pytest.approx(earliest)
        assert basis in prediction.basis

    @given(
        total=st.integers(1, 4),
        workers=st.integers(1, 3),
        line=st.lists(st.builds(Ahead, st.sampled_from(sorted(PAST)), st.integers(1, 4)), max_size=12),
        data=st.data(),
    )
    def test_more_jobs_ahead_never_start_it_sooner(
        self, total: int, workers: int, line: list[Ahead], data: st.DataObject
    ) -> None:
        lent = {f"w{number}": total for number in range(workers)}
        fitting = [each for each in line if each.slots <= total]
        slots = data.draw(st.integers(1, total))
        starts = [predict_start(slots, lent, [], fitting[:count], PAST).expected_seconds for count in range(len(fitting) + 1)]
        assert None not in starts
        assert starts == sorted(starts)  # type: ignore[type-var]


class TestSummarize:
    def test_figures(self) -> None:
        assert summarize([]) is None
        assert summarize([30.0, 10.0, 20.0, 40.0, 100.0]) == Past(typical=30.0, short=20.0, runs=5)

"""A run that stands still is noticed, and one that is only slow is left alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from modelyard.kit.settings import Settings
from modelyard.workers.runner import watchdog as module
from modelyard.workers.runner.watchdog import EventTail, Watchdog, limits_of

LIMITS = {"load": 30.0, "compile": 30.0, "step": 10.0, "save": 20.0, "evaluate": 60.0}


def phase(name: str) -> dict[str, Any]:
    return {"type": "phase", "name": name}


def metric(step: int, at: float) -> dict[str, Any]:
    return {"type": "metric", "step": step, "at": at, "values": {"loss": 1.0}}


def after(*events: tuple[float, dict[str, Any]]) -> Watchdog:
    """A watchdog that began at 0 and saw events at their times."""
    made = Watchdog(LIMITS, seen_at=0.0)
    for at, event in events:
        made.note(event, at)
    return made


class TestFindStall:
    @pytest.mark.parametrize(
        ("events", "phase_", "limit"),
        [
            ([], "load", 30.0),
            ([(1.0, phase("compile"))], "compile", 30.0),
            ([(1.0, phase("step"))], "step", 10.0),
            ([(1.0, phase("step")), (2.0, phase("save"))], "save", 20.0),
            ([(1.0, phase("evaluate"))], "evaluate", 60.0),
            ([(1.0, phase("step")), (2.0, phase("dancing"))], "step", 10.0),
            # 20 times the median of 0.4, 0.6 and 9 is more than 10
            ([(1.0, phase("step")), *[(t, metric(n, t)) for n, t in enumerate((2.0, 2.4, 3.0, 12.0))]], "step", 12.0),
            ([(1.0, phase("step")), *[(t, metric(n, t)) for n, t in enumerate((2.0, 2.1, 2.2, 2.3))]], "step", 10.0),
            # several reports of one step, a clock set back, and what lies between two phases are no steps
            ([(1.0, phase("step")), (2.0, metric(1, 2.0)), (3.0, metric(1, 3.0)), (4.0, metric(2, 1.0))], "step", 10.0),
            ([(1.0, phase("step")), (2.0, metric(1, 2.0)), (3.0, phase("save")), (90.0, phase("step")), (91.0, metric(2, 91.0))],
             "step", 10.0),
        ],
    )  # fmt: skip
    def test_limits(self, events: list[tuple[float, dict[str, Any]]], phase_: str, limit: float) -> None:
        made = after(*events)
        last = events[-1][0] if events else 0.0
        assert made.find_stall(last + limit) is None
        stall = made.find_stall(last + limit + 0.1)
        assert stall is not None
        assert (stall.phase, round(stall.limit_seconds, 6)) == (phase_, limit)

    @pytest.mark.parametrize("event", [{"type": "progress"}, metric(1, 1.0), {}, {"type": "checkpoint"}])
    def test_every_event_is_a_sign_of_life(self, event: dict[str, Any]) -> None:
        made = after((0.0, phase("step")), (9.0, event))
        assert made.find_stall(18.9) is None
        assert made.find_stall(19.1) is not None

    def test_a_checkpoint_tells_the_step_too(self) -> None:
        made = after((0.0, phase("step")), (1.0, {"type": "checkpoint", "step": 25}), (2.0, phase("step")))
        assert "after step 25" in str(made.find_stall(100.0).describe())  # type: ignore[union-attr]

    def test_says_what_stood_still(self) -> None:
        made = after((0.0, phase("step")), (1.0, metric(41, 1.0)))
        stall = made.find_stall(100.0)
        assert stall is not None
        assert stall.describe() == "No sign of progress for 99 s in phase step after step 41 (allowed: 10 s)"
        assert "before its first step" in str(after().find_stall(100.0).describe())  # type: ignore[union-attr]

    @given(some.lists(some.floats(1.0, 19.0), min_size=3, max_size=60))
    def test_steps_of_less_than_twenty_times_the_shortest_are_never_a_stall(self, intervals: list[float]) -> None:
        made, now = Watchdog({**LIMITS, "step": 0.5}, seen_at=0.0, phase="step"), 0.0
        for step, interval in enumerate(intervals):
            now += interval
            assert step < 2 or made.find_stall(now) is None
            made.note(metric(step, now), now)

    def test_settings_name_every_phase(self) -> None:
        settings = Settings(_env_file=None, hang_step_seconds=3.0)
        assert set(limits_of(settings)) == set(LIMITS)
        assert limits_of(settings)["step"] == 3.0


class TestEventTail:
    def test_each_line_once_and_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "READ_BYTES", 50)
        tail = EventTail(tmp_path / "events.jsonl")
        assert tail.read() == []
        lines = [json.dumps(metric(step, 1.0)) for step in range(3)]
        tail.path.write_text("\n".join(lines) + '\n{"type": "pha')
        seen = [event for _ in range(20) for event in tail.read()]
        assert len(lines[0]) > 50, "each longer than one look"
        assert seen, "a line longer than one look is a sign of life in pieces"
        with tail.path.open("a") as more:
            more.write('se", "name": "step"}\n')
        assert {"type": "phase", "name": "step"} in [event for _ in range(3) for event in tail.read()]

    def test_what_is_no_event_is_a_sign_of_life(self, tmp_path: Path) -> None:
        tail = EventTail(tmp_path / "events.jsonl")
        tail.path.write_text('nonsense\n[1]\n{"type": "a"}\n')
        assert tail.read() == [{}, {}, {"type": "a"}]
        assert tail.read() == []

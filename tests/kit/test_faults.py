"""Fault points: off by default, refused when misspelt, once per token."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.kit.faults import POINTS, Fault, InjectedFault, UnknownFault, fault, parse_faults

REACH = "from modelyard.kit.faults import fault; fault('before_ring'); fault('after_ring'); print('through')"


def reach(setting: str) -> subprocess.CompletedProcess[str]:
    """A process that comes to two places, with this setting."""
    return subprocess.run(
        [sys.executable, "-c", REACH], env={"MODELYARD_FAULT": setting, **_path()}, capture_output=True, text=True
    )


def _path() -> dict[str, str]:
    return {"PYTHONPATH": ":".join(sys.path)}


class TestParse:
    def test_points_with_and_without_a_token(self) -> None:
        assert parse_faults("before_ring:kill:/tmp/a:b, after_ring:raise,") == {
            "before_ring": Fault("kill", Path("/tmp/a:b")),
            "after_ring": Fault("raise"),
        }

    @pytest.mark.parametrize("text", ["before_rin:kill", "before_ring", "before_ring:explode", ":kill", "before_ring:raise,x"])
    def test_a_typo_is_refused(self, text: str) -> None:
        with pytest.raises(UnknownFault, match=r"is not point:action.*before_ring.*kill, raise"):
            parse_faults(text)


class TestFault:
    def test_nothing_happens_unless_asked_for(self) -> None:
        for point in POINTS:
            fault(point)
        assert reach("").stdout == "through\n"

    def test_kills_or_raises_at_its_place(self) -> None:
        assert reach("before_ring:kill").returncode == -signal.SIGKILL
        raised = reach("after_ring:raise")
        assert raised.returncode == 1
        assert "InjectedFault: injected at after_ring" in raised.stderr

    def test_a_process_with_a_typo_does_not_start(self) -> None:
        assert "UnknownFault" in reach("before_rnig:kill").stderr

    def test_once_per_token(self, tmp_path: Path) -> None:
        once = Fault("raise", tmp_path / "token")
        with pytest.raises(InjectedFault):
            once.fire("before_ring")
        once.fire("before_ring")


class TestPoints:
    def test_every_point_is_a_place_in_the_code(self) -> None:
        rooms = [Path(entry) for entry in sys.path if (Path(entry) / "modelyard").is_dir()]
        source = "".join(file.read_text() for room in rooms for file in (room / "modelyard").rglob("*.py"))
        assert [point for point in POINTS if f'fault("{point}")' not in source] == []

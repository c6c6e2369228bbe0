"""An explanation as the command prints it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from modelyard.cli.explanations import say_explanation

BASIS = "from 3 past runs of import"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
PLAIN: dict[str, Any] = {
    "state": "queued",
    "summary": "Number 2",
    "details": ["Before it: job_1"],
    "log_lines": [],
    "fix": "Wait.",
    "predicted_start": None,
    "predicted_end": None,
}


def start(expected: str | None, earliest: str | None) -> dict[str, Any]:
    return {"predicted_start": {"expected": expected, "earliest": earliest, "basis": BASIS}}


class TestSay:
    @pytest.mark.parametrize(
        ("more", "line"),
        [
            (start("2030-01-01T00:10:00Z", "2030-01-01T00:00:00Z"), f"likely starts in 10 min, earliest now ({BASIS})"),
            (start("2030-01-01T05:00:00Z", "2030-01-01T00:00:59Z"), f"likely starts in 5 h, earliest in 59 s ({BASIS})"),
            (start(None, None), "when it starts is not known: from 3 past runs of import"),
            ({"predicted_end": "2030-01-03T12:00:00Z"}, "likely ends in 2 d"),
            ({"log_lines": ["KeyError: 'x'"]}, "  | KeyError: 'x'"),
        ],
    )
    def test_lines(self, more: dict[str, Any], line: str) -> None:
        assert say_explanation({**PLAIN, **more}, NOW) == ["queued: Number 2", "  Before it: job_1", line, "what to do: Wait."]

    def test_nothing_to_do(self) -> None:
        assert say_explanation({**PLAIN, "fix": None}, NOW) == ["queued: Number 2", "  Before it: job_1"]

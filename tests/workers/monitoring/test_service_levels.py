"""Service levels of a small window, worked out by hand."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelyard.workers.monitoring.interactions import Interaction
from modelyard.workers.monitoring.service_levels import measure_service_levels

START = datetime(2026, 1, 1, tzinfo=UTC)


def interaction(second: int, latency: float, **fields: Any) -> Interaction:
    values = {"id": str(second), "created_at": START + timedelta(seconds=second), "messages": [], "status": 200}
    return Interaction(**{**values, "latency_seconds": latency, "completion_tokens": 10, "prompt_tokens": 3, **fields})


def test_figures_of_a_window() -> None:
    failed = {"completion_tokens": None, "prompt_tokens": None}
    window = [
        interaction(0, 1.0),
        interaction(10, 2.0, streamed=True, time_to_first_token_seconds=0.5),
        interaction(20, 3.0, streamed=True, time_to_first_token_seconds=0.7),
        interaction(30, 0.01, status=400, **failed),
        interaction(35, 0.5, status=499, **failed),
        interaction(38, 2.0, status=503, **failed),
    ]
    figures = measure_service_levels(window)
    assert figures["requests"] == 6
    assert figures["window_seconds"] == 40
    assert figures["error_share"] == pytest.approx(2 / 6, abs=1e-4)
    assert figures["server_error_share"] == figures["abandoned_share"] == pytest.approx(1 / 6, abs=1e-4)
    # Only the three answered ones: 1, 2 and 3 seconds.
    assert figures["latency_p50_seconds"] == 2.0
    assert figures["latency_p95_seconds"] == pytest.approx(2.9)
    assert figures["latency_mean_seconds"] == 2.0
    assert figures["time_to_first_token_p50_seconds"] == pytest.approx(0.6)
    assert (figures["prompt_tokens"], figures["completion_tokens"]) == (9, 30)
    assert figures["tokens_per_second"] == pytest.approx(30 / 6)
    assert figures["throughput_tokens_per_second"] == pytest.approx(30 / 40)


def test_what_was_not_measured_is_none() -> None:
    figures = measure_service_levels([interaction(0, 1.0, status=500)])
    assert figures["latency_p50_seconds"] is None
    assert figures["time_to_first_token_p95_seconds"] is None
    assert figures["tokens_per_second"] is None
    assert figures["error_share"] == 1.0


@pytest.mark.parametrize(
    ("messages", "question"),
    [
        ([{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}], "one"),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}, 7, {"text": "b"}]}], "ab"),
        (["not a message", {"role": "user"}], ""),
        ([{"role": "user", "content": 5}], ""),
        ([], ""),
    ],
)
def test_question_of_whatever_was_sent(messages: list[Any], question: str) -> None:
    assert interaction(0, 1.0, messages=messages).question == question

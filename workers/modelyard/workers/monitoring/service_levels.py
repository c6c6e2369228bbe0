"""How well a deployment served: latency, first token, tokens, errors."""

from collections.abc import Iterable, Sequence

import numpy as np

from modelyard.workers.monitoring.interactions import CLIENT_LEFT, Interaction


def measure_service_levels(interactions: Sequence[Interaction]) -> dict[str, float | int | None]:
    """Return the figures of a window. Seconds and tokens; shares are 0 to 1; None where nothing could be measured.

    Latencies are of answered requests only: a refusal is quick, and would flatter.
    `tokens_per_second` is the speed one client sees (tokens of answers over their latency);
    `throughput_tokens_per_second` is of the whole deployment over the window from the first request to the last answer.
    """
    answered = [interaction for interaction in interactions if interaction.is_answered]
    first_tokens = [i.time_to_first_token_seconds for i in answered if i.streamed and i.time_to_first_token_seconds is not None]
    written = [i for i in answered if i.completion_tokens is not None]
    completion_tokens = sum(i.completion_tokens or 0 for i in written)
    window = _window_seconds(interactions)
    return {
        "requests": len(interactions),
        "streamed_requests": sum(i.streamed for i in interactions),
        "window_seconds": round(window, 3),
        "error_share": _share(i.status >= 400 and i.status != CLIENT_LEFT for i in interactions),
        "server_error_share": _share(i.status >= 500 for i in interactions),
        "abandoned_share": _share(i.status == CLIENT_LEFT for i in interactions),
        **_percentiles("latency", [i.latency_seconds for i in answered]),
        **_percentiles("time_to_first_token", first_tokens),
        "prompt_tokens": sum(i.prompt_tokens or 0 for i in answered),
        "completion_tokens": completion_tokens,
        "tokens_per_second": _ratio(completion_tokens, sum(i.latency_seconds for i in written)),
        "throughput_tokens_per_second": _ratio(completion_tokens, window),
    }


def _percentiles(name: str, seconds: list[float]) -> dict[str, float | None]:
    """p50, p95 and mean, with linear interpolation between neighbours."""
    if not seconds:
        return {f"{name}_{statistic}_seconds": None for statistic in ("p50", "p95", "mean")}
    p50, p95 = np.percentile(seconds, [50, 95])
    values = {"p50": p50, "p95": p95, "mean": np.mean(seconds)}
    return {f"{name}_{statistic}_seconds": round(float(value), 4) for statistic, value in values.items()}


def _share(facts: Iterable[bool]) -> float:
    return round(float(np.mean([*facts])), 4)


def _window_seconds(interactions: Sequence[Interaction]) -> float:
    start = min(i.created_at.timestamp() for i in interactions)
    return max(i.created_at.timestamp() + i.latency_seconds for i in interactions) - start


def _ratio(amount: float, seconds: float) -> float | None:
    return round(amount / seconds, 3) if seconds > 0 else None

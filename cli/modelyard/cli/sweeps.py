"""Sweeps on a terminal: waiting for one, and its trials as a table."""

from modelyard.cli.client import Client, Document
from modelyard.cli.console import format_figure, print_table, say
from modelyard.cli.errors import JobFailed
from modelyard.cli.waiting import FINAL_STATES, wait_until


def follow_sweep(client: Client, sweep_id: str, timeout_seconds: float | None = None) -> Document:
    """Say what changes until a sweep is done; return its last state. Raises `WaitTimedOut`."""
    said: list[str] = []

    def tell(sweep: Document) -> None:
        line = f"{sweep['state']}: {count_trials(sweep)}; {describe_best(sweep)}"
        if said[-1:] != [line]:
            said.append(line)
            say(line)

    return wait_until(lambda: client.get(f"/v1/sweeps/{sweep_id}"), _is_done, tell, timeout_seconds)


def show_sweep(sweep: Document) -> None:
    """Print the trials as a table, and the best so far."""
    places = list(sweep["parameters"])
    titles = ("trial", "state", "step", sweep["metric"], *(place.rpartition(".")[2] for place in places), "GPU-hours", "id")
    rows = [
        (
            f"{trial['number']} *" if trial["number"] == sweep["best"] else trial["number"],
            trial["state"],
            trial["step"],
            format_figure(trial["value"]),
            *(format_figure(trial["parameters"].get(place)) for place in places),
            f"{trial['gpu_hours']:.3f}",
            trial["job_id"] or trial["message"],
        )
        for trial in sweep["items"]
    ]
    print_table(titles, rows, f"{sweep['name']} is {sweep['state']}: {count_trials(sweep)}, {sweep['gpu_hours']:.3f} GPU-hours")
    say(describe_best(sweep))
    if sweep["message"]:
        say(sweep["message"])


def count_trials(sweep: Document) -> str:
    """`3 of 16 trials (1 running, 2 waiting)`."""
    counts: dict[str, int] = sweep["trial_counts"]
    states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return f"{sum(counts.values())} of {sweep['trials']} trials" + (f" ({states})" if states else "")


def describe_best(sweep: Document) -> str:
    """One sentence about the best trial so far."""
    if sweep["best"] is None:
        return "no trial has come to a value yet" if not _is_done(sweep) else "no trial came to a value"
    best = sweep["items"][sweep["best"]]
    chosen = ", ".join(f"{place.removeprefix('spec.')} {format_figure(value)}" for place, value in best["parameters"].items())
    text = f"best: trial {best['number']} with {sweep['metric']} {format_figure(best['value'])} at step {best['step']} ({chosen})"
    made = sweep["promoted"]
    return f"{text}; registered as {made['name']}@{made['version']}" if made else text


def raise_if_sweep_failed(sweep: Document) -> None:
    """Raise `JobFailed` with the cause unless the sweep succeeded."""
    if sweep["state"] != "succeeded":
        raise JobFailed(f"{sweep['name']} is {sweep['state']}: {sweep['message'] or 'no reason given'}")


def _is_done(sweep: Document) -> bool:
    return sweep["state"] in FINAL_STATES

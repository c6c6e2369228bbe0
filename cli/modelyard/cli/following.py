"""Follow a job or a pipeline while it runs: progress, latest metrics, log lines."""

from typing import Any

from modelyard.cli.client import Client, Document
from modelyard.cli.console import print_json
from modelyard.cli.errors import CommandError, NotFound
from modelyard.cli.progress import ProgressView
from modelyard.cli.waiting import FINAL_STATES, has_succeeded, is_done, raise_if_failed, wait_until


def fetch_thing(client: Client, thing_id: str) -> Document:
    """The job or pipeline with this id. Raises `NotFound`."""
    try:
        return client.get_job(thing_id)
    except NotFound as missing:
        try:
            return client.get_pipeline(thing_id)
        except NotFound:
            raise missing from None


def follow(client: Client, thing_id: str, timeout_seconds: float | None = None) -> Document:
    """Show progress until the job or pipeline is done; return its last state. Raises `WaitTimedOut`."""
    with ProgressView() as view:
        latest = LatestMetrics(client)
        return wait_until(
            lambda: fetch_thing(client, thing_id), is_done, lambda thing: show(view, latest, thing), timeout_seconds
        )


class LatestMetrics:
    """The newest value of each metric of running jobs; each look asks only for what came since the last one."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._after: dict[str, int] = {}
        self._values: dict[str, dict[str, float]] = {}

    def get(self, job: Document) -> dict[str, float]:
        """Metric name -> newest value."""
        values = self._values.setdefault(job["id"], {})
        if job["state"] == "running":
            for point in self._client.get_metrics(job["id"], self._after.get(job["id"], 0)):
                values[point["name"]] = point["value"]
                self._after[job["id"]] = point["id"]
        return values


def show(view: ProgressView, latest: LatestMetrics, thing: Document) -> None:
    """Update the view with every job of a pipeline, or with the one job."""
    for job in thing.get("jobs") or [thing]:
        view.update(job, latest.get(job))


def explain_failure(client: Client, thing: Document) -> None:
    """Raise `JobFailed` with the explanation of the first job that failed; do nothing if all went well."""
    if has_succeeded(thing):
        return
    ended = [job for job in thing.get("jobs") or [thing] if is_done(job) and not has_succeeded(job)]
    # A job that was cancelled because another failed is not the cause.
    culprit = min(ended, key=lambda job: (job["state"] == "cancelled", str(job["finished_at"] or "")), default=thing)
    try:
        explanation: Document | None = client.explain_job(culprit["id"])
    except CommandError:
        explanation = None
    raise_if_failed(culprit, explanation)
    raise_if_failed(thing)


def print_logs(client: Client, job_id: str, goes_on: bool, as_json: bool) -> None:
    """Print log lines as they come, each once, until there are no more (or the job is done)."""
    after: Any = None
    if not goes_on:
        _print_new_lines(client, job_id, after, as_json)
        return

    def fetch() -> Document:
        nonlocal after
        # The state is read first: what the job wrote before it ended is then already there.
        job = client.get_job(job_id)
        after = _print_new_lines(client, job_id, after, as_json)
        return job

    wait_until(fetch, lambda job: job["state"] in FINAL_STATES, lambda job: None)


def _print_new_lines(client: Client, job_id: str, after: Any, as_json: bool) -> Any:
    while True:
        page = client.get_logs(job_id, after)
        for line in page["data"]:
            print_json(line) if as_json else print(line["text"].rstrip("\n"), flush=True)
        if not page["data"]:
            return after
        after = page["data"][-1]["id"]

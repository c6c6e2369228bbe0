"""Run the quickstart: start or reuse the platform, submit the pipeline, talk to what it deployed, report."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelyard.cli.client import Client
from modelyard.cli.console import print_json, say
from modelyard.cli.credentials import find_credentials
from modelyard.cli.errors import CommandError, JobFailed
from modelyard.cli.following import LatestMetrics, explain_failure, show
from modelyard.cli.platform.panel import show_panel
from modelyard.cli.platform.record import find_supervisor
from modelyard.cli.platform.start import UpOptions, start_detached
from modelyard.cli.platform.stop import stop_platform
from modelyard.cli.progress import ProgressView
from modelyard.cli.quickstart.closing import show_closing
from modelyard.cli.quickstart.conversation import QUESTIONS, Answer, ask_questions, summarize
from modelyard.cli.quickstart.pipeline import load_pipeline
from modelyard.cli.quickstart.stages import describe_stage, find_deployment, has_failed
from modelyard.cli.waiting import is_done, wait_until

Document = dict[str, Any]


@dataclass
class Outcome:
    """How it went."""

    seconds: float
    pipeline: Document = field(default_factory=lambda: {"jobs": []})
    requests: Document = field(default_factory=dict)
    failure: CommandError | None = None

    def to_document(self) -> Document:
        """The last line of `--json`."""
        return {
            "status": "failed" if self.failure else "succeeded",
            "seconds": round(self.seconds, 1),
            "stages": [describe_stage(job) for job in self.pipeline["jobs"]],
            "requests": self.requests,
        }


def run_quickstart(data_dir: Path, port: int | None, stops: bool, as_json: bool) -> None:
    """Do all of it. Raises `JobFailed` with an explanation when a stage failed."""
    pipeline = load_pipeline()
    started = time.monotonic()
    _make_sure_it_runs(data_dir, port)
    credentials = find_credentials(data_dir)
    with Client(credentials.api_url, credentials.api_key) as client:
        outcome = _run(client, credentials.api_key, pipeline)
    outcome.seconds = time.monotonic() - started
    if stops:
        from modelyard.kit.settings import Settings

        stop_platform(data_dir.resolve(), Settings(data_dir=data_dir).stop_grace_seconds)
    show_closing(outcome.to_document(), credentials.api_url, data_dir, stops)
    if as_json:
        print_json(outcome.to_document())
    if outcome.failure is not None:
        raise outcome.failure


def _make_sure_it_runs(data_dir: Path, port: int | None) -> None:
    if find_supervisor(data_dir.resolve()) is None:
        say("starting a platform on this machine")
        ready, is_new_key = start_detached(UpOptions(data_dir, port))
        show_panel(ready, is_new_key, is_detached=True)


def _run(client: Client, key: str, document: Document) -> Outcome:
    """Submit and follow. A failure is kept in the outcome, so that the table shows how far it went."""
    outcome = Outcome(0.0)
    try:
        outcome.pipeline = client.submit_pipeline(document)
        pipeline_id = outcome.pipeline["id"]
        with ProgressView() as view:
            latest = LatestMetrics(client)

            def seen(pipeline: Document) -> None:
                outcome.pipeline = pipeline
                show(view, latest, pipeline)

            def fetch() -> Document:
                return client.get_pipeline(pipeline_id)

            wait_until(fetch, lambda pipeline: find_deployment(pipeline) is not None or has_failed(pipeline), seen)
            deployment = find_deployment(outcome.pipeline)
            if deployment is not None:
                outcome.requests = _talk(client.url, key, deployment["spec"]["name"])
                wait_until(fetch, lambda pipeline: has_failed(pipeline) or is_done(pipeline), seen)
        explain_failure(client, outcome.pipeline)
    except CommandError as error:
        outcome.failure = error if isinstance(error, JobFailed) else _as_failure(error)
    return outcome


def _talk(url: str, key: str, model: str) -> Document:
    say(f"asking the deployment {len(QUESTIONS)} questions")
    answers = ask_questions(url, key, model, _show_answer)
    return summarize(answers)


def _show_answer(answer: Answer) -> None:
    say(f"  {answer.question}  →  {' '.join(answer.text.split())[:90]}", "dim")


def _as_failure(error: CommandError) -> CommandError:
    return JobFailed(str(error)) if error.exit_code == 1 else error

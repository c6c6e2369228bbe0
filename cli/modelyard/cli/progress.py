"""Live progress of jobs on standard error: bars on a terminal, one line per change elsewhere."""

from types import TracebackType
from typing import Any, Self

from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from modelyard.cli.console import format_figures, messages, say
from modelyard.cli.waiting import has_succeeded, is_done

Document = dict[str, Any]

STYLES = {"succeeded": "green", "failed": "red", "quarantined": "red", "cancelled": "yellow", "running": "cyan"}


def name_of(job: Document) -> str:
    """What a person calls the job: its step in the pipeline, its name, or its id."""
    return str(job.get("step") or job.get("name") or job["id"])


def state_of(job: Document) -> str:
    """The state in one word: a running service that answers is `ready`, one that does not yet is `running`."""
    return "ready" if job["state"] == "running" and job.get("ready_at") else str(job["state"])


class ProgressView:
    """Shows jobs by id. Use as a context manager; call `update` as often as you like."""

    def __init__(self) -> None:
        self._is_live = messages().is_terminal
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, tuple[str, int]] = {}
        self._bars = Progress(
            TextColumn("{task.fields[state]:>11}", style="bold"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=messages(),
        )

    def __enter__(self) -> Self:
        if self._is_live:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._is_live:
            self._bars.stop()

    def update(self, job: Document, latest: dict[str, float] | None = None) -> None:
        """Show the present state of a job and the latest values of its metrics."""
        note = " · ".join(filter(None, [job.get("progress_message") or "", format_figures(latest or {}), _reason_of(job)]))
        if self._is_live:
            self._draw(job, note)
        else:
            self._tell(job, note)

    def _draw(self, job: Document, note: str) -> None:
        task = self._tasks.get(job["id"])
        if task is None:
            task = self._tasks[job["id"]] = self._bars.add_task(escape(name_of(job)), total=1.0, start=False, state="", note="")
        if (job["state"] == "running" or is_done(job)) and self._bars.tasks[self._bars.task_ids.index(task)].start_time is None:
            self._bars.start_task(task)
        if is_done(job):
            self._bars.stop_task(task)
        style = STYLES.get(job["state"], "white")
        self._bars.update(
            task,
            completed=1.0 if has_succeeded(job) else job.get("progress") or 0.0,
            state=f"[{style}]{state_of(job)}[/]",
            note=escape(note),
        )

    def _tell(self, job: Document, note: str) -> None:
        """Say a line when the state changes, and at each quarter of the way."""
        stage = (state_of(job), int(4 * (job.get("progress") or 0.0)))
        if self._said.get(job["id"]) != stage:
            self._said[job["id"]] = stage
            say(f"{state_of(job):>11}  {name_of(job)}  {100 * (job.get('progress') or 0.0):.0f} %  {note}".rstrip())


def _reason_of(job: Document) -> str:
    return str(job.get("reason") or "") if job["state"] in {"held", "queued", "failed", "quarantined"} else ""

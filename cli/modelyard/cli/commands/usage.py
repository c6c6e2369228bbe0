"""The command that shows the ledger: what was used, and what came of it."""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer

from modelyard.cli.options import ClientDataDir, JsonOption

COLUMNS = ("total", "useful", "redone", "starting", "idle", "failed")
_SINCE = re.compile(r"(\d+)([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


class By(StrEnum):
    """What one line stands for."""

    PROJECT = "project"
    JOB = "job"
    KIND = "kind"
    MONTH = "month"
    ACCELERATOR = "accelerator"
    ATTEMPT = "attempt"


def register(app: typer.Typer) -> None:
    """Add this command to the `modelyard` command."""
    app.command()(usage)


def usage(
    by: Annotated[By, typer.Option(help="What one line stands for.")] = By.JOB,
    since: Annotated[
        str, typer.Option(help="Attempts that ended in the last hours, or whole days or weeks (UTC): 12h, 7d, 4w.")
    ] = "30d",
    project: Annotated[str | None, typer.Option(help="Another project by name, or `all`; needs an admin key.")] = None,
    job_id: Annotated[str | None, typer.Option("--job", metavar="ID", help="Only this job.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many lines, largest first.")] = 50,
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """Show slot-hours: useful, redone, starting, idle, failed. A slot is a GPU, or a CPU share where a job ran on those."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json, print_table, say

    filters = {"project": project, "job_id": job_id, "limit": limit, "since": _moment(since)}
    with connect(data_dir) as client:
        report = client.get("/v1/usage", group_by=by.value, **filters)
    if json:
        print_json(report)
        return
    titles = (by.value, "slots are", "attempts", *(f"{name} h" for name in COLUMNS), "waited h", "useful")
    print_table(titles, [_line(row) for row in report["data"]])
    if any(row["provisional"] for row in report["data"]):
        say("* includes attempts that still run, as if they ended well now")
    if report["has_more"]:
        say(f"only the {limit} largest are shown; --limit shows more")


def _line(row: dict[str, Any]) -> tuple[object, ...]:
    hours = [f"{row['gpu_hours'][name]:.3f}" for name in COLUMNS]
    share = "–" if row["useful_share"] is None else f"{100 * row['useful_share']:.0f} %"
    name = f"{row['key']}{'*' if row['provisional'] else ''}"
    return (name, row["accelerator"], row["attempts"], *hours, f"{row['waiting_hours']:.3f}", share)


def _moment(since: str) -> str:
    """The start of the period, as the API takes it."""
    from modelyard.cli.errors import WrongUsage

    match = _SINCE.fullmatch(since)
    if match is None:
        raise WrongUsage(f"--since {since!r}: give a number and h, d or w, e.g. 12h, 7d, 4w")
    try:
        start = datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError as error:
        raise WrongUsage(f"--since {since!r} lies before the calendar begins") from error
    # Whole days are added up already.
    return (start if match[2] == "h" else start.replace(hour=0, minute=0, second=0, microsecond=0)).isoformat()

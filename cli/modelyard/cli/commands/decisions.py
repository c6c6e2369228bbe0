"""Commands for what people decide about jobs: approve, reject, retry."""

from typing import Annotated, Any

import typer

from modelyard.cli.options import ClientDataDir, JsonOption

Document = dict[str, Any]
JobId = Annotated[str, typer.Argument(metavar="ID", help="Id of a job.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the `modelyard` command."""
    for command in (approve, reject, retry):
        app.command()(command)


def approve(
    job_id: JobId,
    comment: Annotated[str | None, typer.Option(help="Kept with the approval.")] = None,
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """Let a job that waits for approval go on."""
    from modelyard.cli.client import connect

    with connect(data_dir) as client:
        _show(client.post(f"/v1/jobs/{job_id}/approve", {"comment": comment}), json)


def reject(
    job_id: JobId,
    reason: Annotated[str, typer.Option(help="Why it must not run; shown to whoever submitted it.")],
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """Turn down a job that waits for approval."""
    from modelyard.cli.client import connect

    with connect(data_dir) as client:
        _show(client.post(f"/v1/jobs/{job_id}/reject", {"reason": reason}), json)


def retry(
    thing_id: Annotated[str, typer.Argument(metavar="ID", help="Id of a job or a pipeline.")],
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """Try again what failed: a job from its last checkpoint, or the failed part of a pipeline."""
    from modelyard.cli.client import connect

    collection = "pipelines" if thing_id.startswith("pipe_") else "jobs"
    with connect(data_dir) as client:
        _show(client.post(f"/v1/{collection}/{thing_id}/retry"), json)


def _show(thing: Document, json: bool) -> None:
    from modelyard.cli.console import print_json

    if json:
        print_json(thing)
    else:
        again = f", again for {thing['retry_of']}" if thing.get("retry_of") else ""
        print(f"{thing['id']} is {thing['state']}{again}")

"""`modelyard reproduce`, `modelyard reproduction` and `modelyard manifest`."""

from typing import Annotated, Any

import typer

from modelyard.cli.options import ClientDataDir, JsonOption

JobId = Annotated[str, typer.Argument(metavar="ID", help="Id of a job.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the `modelyard` command."""
    for command in (reproduce, reproduction, manifest):
        app.command()(command)


def reproduce(
    job_id: JobId,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it is done and compare; exit code 1 if it fails or differs.")
    ] = False,
    timeout: Annotated[float | None, typer.Option(help="Give up waiting after so many seconds (exit code 124).")] = None,
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """Run a job again with the same spec and inputs, and say whether the same comes out."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json, say
    from modelyard.cli.following import explain_failure, follow

    with connect(data_dir) as client:
        made = client.post(f"/v1/jobs/{job_id}/reproduce")
        say(f"submitted job {made['id']}, which reproduces {job_id}")
        if not wait:
            print_json(made) if json else print(made["id"])
            return
        explain_failure(client, follow(client, made["id"], timeout))
        _report(client.get(f"/v1/jobs/{made['id']}/reproduction"), json)


def reproduction(job_id: JobId, json: JsonOption = False, data_dir: ClientDataDir = None) -> None:
    """Say whether a reproduction came out like the job it reproduces; exit code 1 if not."""
    from modelyard.cli.client import connect

    with connect(data_dir) as client:
        _report(client.get(f"/v1/jobs/{job_id}/reproduction"), json)


def manifest(job_id: JobId, data_dir: ClientDataDir = None) -> None:
    """Print what a training job ran with, as JSON: code, packages, seeds, inputs, hardware."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json

    with connect(data_dir) as client:
        print_json(client.get(f"/v1/jobs/{job_id}/manifest")["manifest"])


def _report(found: dict[str, Any], json: bool) -> None:
    from modelyard.cli.console import print_json, print_table
    from modelyard.cli.waiting import FINAL_STATES

    rows = [
        *((f"step {each['step']}", each["metric"], *_both(each)) for each in found["first_different_points"][:5]),
        *((each["output"], each["file"], *_both(each)) for each in found["different_files"][:5]),
        *(("ran with", each["field"], *_both(each)) for each in found["different_fields"]),
    ]
    if json:
        print_json(found)
    else:
        print(found["summary"])
        if rows:
            print_table(("where", "what", "original", "reproduction"), rows)
    if found["state"] in FINAL_STATES and not found["is_identical"]:
        raise typer.Exit(1)


def _both(difference: dict[str, Any]) -> tuple[str, str]:
    return str(difference["original"]), str(difference["reproduction"])

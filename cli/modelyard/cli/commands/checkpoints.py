"""`modelyard checkpoints`: what training jobs saved."""

from typing import Annotated, Any

import typer

from modelyard.cli.options import ClientDataDir, JsonOption

Document = dict[str, Any]
CheckpointId = Annotated[str, typer.Argument(metavar="ID", help="Id of a checkpoint.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the `modelyard` command."""
    checkpoints = typer.Typer(help="Look at, verify and remove what training jobs saved.", no_args_is_help=True)
    checkpoints.command("list")(list_)
    for command in (verify, delete):
        checkpoints.command()(command)
    app.add_typer(checkpoints, name="checkpoints")


def list_(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="Id of a job.")],
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """List a job's checkpoints, newest first, and why each is kept."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json, print_table

    with connect(data_dir) as client:
        page = client.get(f"/v1/jobs/{job_id}/checkpoints")
    if json:
        print_json(page)
        return
    print_table(("id", "step", "attempt", "metrics", "size", "kept for", "verified"), [row_of(each) for each in page["data"]])


def row_of(checkpoint: Document) -> tuple[Any, ...]:
    """A checkpoint as a row of the table."""
    from modelyard.cli.console import format_figures

    reasons = [*checkpoint["kept_for"], *checkpoint["needed_by"]]
    return (
        checkpoint["id"],
        checkpoint["step"],
        checkpoint["attempt"],
        format_figures(checkpoint["metrics"]),
        f"{checkpoint['bytes'] / 2**20:.1f} MiB",
        ", ".join(reasons),
        checkpoint["damage"] or checkpoint["verified_at"],
    )


def verify(checkpoint_id: CheckpointId, json: JsonOption = False, data_dir: ClientDataDir = None) -> None:
    """Read every stored byte again; exit code 1 if it is not what was written."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json, print_table

    with connect(data_dir) as client:
        found = client.post(f"/v1/checkpoints/{checkpoint_id}/verify")
    if json:
        print_json(found)
    elif found["is_whole"]:
        print(f"{checkpoint_id} is whole")
    else:
        rows = [(each["file"], each["expected"], each["actual"] or "missing") for each in found["damaged"]]
        print_table(("file", "written (SHA-256)", "found"), rows)
    if not found["is_whole"]:
        raise typer.Exit(1)


def delete(checkpoint_id: CheckpointId, data_dir: ClientDataDir = None) -> None:
    """Remove a checkpoint nobody needs."""
    from modelyard.cli.client import connect

    with connect(data_dir) as client:
        client.delete(f"/v1/checkpoints/{checkpoint_id}")
    print(f"{checkpoint_id} is deleted")

"""The command that lists what happened to a job."""

from typing import Annotated

import typer

from modelyard.cli.options import ClientDataDir, JsonOption


def register(app: typer.Typer) -> None:
    """Add this command to the `modelyard` command."""
    app.command()(events)


def events(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="Id of a job.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=5000, help="At most so many, the newest ones.")] = 50,
    details: Annotated[bool, typer.Option("--details", help="Phases and figures too, which a recipe may tell often.")] = False,
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """List what happened to a job and why, newest last."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json, print_table, say

    with connect(data_dir) as client:
        page = client.get(f"/v1/jobs/{job_id}/events", order="desc", limit=limit, brief=not details)
    found = page["data"][::-1]
    if json:
        print_json({"data": found, "has_more": page["has_more"]})
        return
    rows = [(event["created_at"][:19] + "Z", event["attempt"] or "", event["what"], event["why"]) for event in found]
    print_table(("time", "attempt", "what", "why"), rows)
    if page["has_more"]:
        say(f"only the {limit} newest are shown; --limit shows more")

"""Commands that look at a job before it runs: plan."""

from typing import Annotated

import typer

from modelyard.cli.options import ClientDataDir, JsonOption

JobFile = Annotated[str, typer.Argument(help="YAML or JSON with a job; `-` reads standard input.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the `modelyard` command."""
    app.command()(plan)


def plan(file: JobFile, json: JsonOption = False, data_dir: ClientDataDir = None) -> None:
    """Say what a job will need: memory, disk, tokens, time, cost, when it would start. Creates nothing."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json, print_table, results
    from modelyard.cli.documents import read_job
    from modelyard.cli.plans import list_rows, say_notes

    body = read_job(file)
    with connect(data_dir) as client:
        found = client.post("/v1/jobs/plan", body)
    if json:
        print_json(found)
        return
    print_table(("what", "how much", "why"), list_rows(found))
    results().print("\n".join(say_notes(found)), markup=False, soft_wrap=True)

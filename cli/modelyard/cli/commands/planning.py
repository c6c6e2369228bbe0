"""Commands that look at a job before it runs: plan and preview."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from modelyard.cli.options import ClientDataDir, JsonOption

JobFile = Annotated[str, typer.Argument(help="YAML or JSON with a job; `-` reads standard input.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the `modelyard` command."""
    for command in (plan, preview):
        app.command()(command)


def plan(
    file: JobFile,
    probe: Annotated[bool, typer.Option("--probe", help="Also run three steps of it, as a job of its own, to measure.")] = False,
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """Say what a job will need: memory, disk, tokens, time, cost, when it would start. Creates nothing."""
    from modelyard.cli.console import print_json, print_table, results
    from modelyard.cli.plans import list_rows, say_notes

    found = _ask("/v1/jobs/plan", file, data_dir, {"probe": True} if probe else {})
    if json:
        print_json(found)
        return
    print_table(("what", "how much", "why"), list_rows(found))
    results().print("\n".join(say_notes(found)), markup=False, soft_wrap=True)


def preview(
    file: JobFile,
    rows: Annotated[int, typer.Option(min=1, max=20, help="So many rows, spread over the training split.")] = 3,
    tokenizer: Annotated[str | None, typer.Option(help="A model whose tokenizer is used, where the job trains its own.")] = None,
    answer: Annotated[str | None, typer.Option(help="What rewards are tried on, instead of each problem's own answer.")] = None,
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """Show rows of a training job's data as token ids, and what of them is learned. Creates nothing."""
    from modelyard.cli.console import print_json, results
    from modelyard.cli.plans import say_preview

    given = {name: value for name, value in (("tokenizer", tokenizer), ("answer", answer)) if value is not None}
    query = urlencode({"rows": rows} | given)
    found = _ask(f"/v1/jobs/preview?{query}", file, data_dir)
    if json:
        print_json(found)
        return
    results().print("\n".join(say_preview(found)), markup=False, soft_wrap=True)


def _ask(path: str, file: str, data_dir: ClientDataDir, options: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    from modelyard.cli.client import connect
    from modelyard.cli.documents import read_job

    body = read_job(file)
    with connect(data_dir) as client:
        found: dict[str, Any] = client.post(path, {**body, **options})
    return found

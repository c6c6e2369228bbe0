"""`modelyard sweep FILE` and `modelyard sweeps`: searches for the best hyper-parameters."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from modelyard.cli.options import ClientDataDir, JsonOption

Document = dict[str, Any]
Which = Annotated[str, typer.Argument(metavar="ID", help="Id or name of a sweep; of a name the newest.")]


class FileOrCommand(TyperGroup):
    """Takes `modelyard sweep FILE` for `modelyard sweep start FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in where the first word is none."""
        if args and args[0] not in self.commands and not {"--help", "-h"} & set(args[:1]):
            args = ["start", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add these commands to the `modelyard` command."""
    sweep = typer.Typer(
        cls=FileOrCommand,
        help="Search for the best hyper-parameters of a job: `modelyard sweep FILE`, or one of these.",
        no_args_is_help=True,
    )
    for command in (start, show, pause, resume, cancel):
        sweep.command()(command)
    app.add_typer(sweep, name="sweep")
    app.command("sweeps")(list_)


def start(
    file: Annotated[str, typer.Argument(help="YAML or JSON with a sweep; `-` reads standard input.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is done; exit code 1 if it fails.")] = False,
    timeout: Annotated[float | None, typer.Option(help="Give up waiting after so many seconds (exit code 124).")] = None,
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """Start a sweep {name, job: {spec: …}, parameters: {spec.…: {type, low, high}}, trials, …}."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json, say
    from modelyard.cli.documents import read_sweep
    from modelyard.cli.sweeps import follow_sweep, raise_if_sweep_failed, show_sweep

    body = read_sweep(file)
    with connect(data_dir) as client:
        made = client.post("/v1/sweeps", body)
        say(f"started sweep {made['id']}")
        if not wait:
            print_json(made) if json else print(made["id"])
            return
        ended = follow_sweep(client, made["id"], timeout)
    print_json(ended) if json else show_sweep(ended)
    raise_if_sweep_failed(ended)


def show(name: Which, json: JsonOption = False, data_dir: ClientDataDir = None) -> None:
    """Show the trials of a sweep, and the best so far."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json
    from modelyard.cli.sweeps import show_sweep

    with connect(data_dir) as client:
        found = client.get(f"/v1/sweeps/{name}")
    print_json(found) if json else show_sweep(found)


def pause(name: Which, json: JsonOption = False, data_dir: ClientDataDir = None) -> None:
    """Give out no more work, and pause the trials that run."""
    _ask("pause", name, json, data_dir)


def resume(name: Which, json: JsonOption = False, data_dir: ClientDataDir = None) -> None:
    """Let a paused sweep and its trials go on."""
    _ask("resume", name, json, data_dir)


def cancel(name: Which, json: JsonOption = False, data_dir: ClientDataDir = None) -> None:
    """End a sweep; its trials save and leave, and the best so far is kept."""
    _ask("cancel", name, json, data_dir)


def list_(
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many, newest first.")] = 20,
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """List sweeps, newest first."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json, print_table
    from modelyard.cli.sweeps import count_trials

    with connect(data_dir) as client:
        page = client.get("/v1/sweeps", limit=limit)
    if json:
        print_json(page)
        return
    rows = [(each["id"], each["name"], each["state"], count_trials(each), each["metric"], each["best"]) for each in page["data"]]
    print_table(("id", "name", "state", "trials", "metric", "best"), rows)


def _ask(what: str, name: str, json: bool, data_dir: ClientDataDir) -> None:
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json

    with connect(data_dir) as client:
        sweep = client.post(f"/v1/sweeps/{name}/{what}")
    print_json(sweep) if json else print(f"{sweep['id']} is {sweep['state']}")

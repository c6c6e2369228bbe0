"""`modelyard worker`: run one on this machine, or drain one anywhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.options import ClientDataDir, JsonOption

if TYPE_CHECKING:
    from modelyard.cli.client import Client

Document = dict[str, Any]
WorkerName = Annotated[str, typer.Argument(metavar="NAME", help="Its id, e.g. train@host; the part before @ if no other has it.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the `modelyard` command."""
    worker = typer.Typer(help="Run a worker for some stages on this machine, or drain one.", invoke_without_command=True)
    worker.callback()(run)
    worker.command()(drain)
    worker.command()(undrain)
    app.add_typer(worker, name="worker")


def run(
    context: typer.Context,
    stages: Annotated[str | None, typer.Option(help="Stages it serves, e.g. finetune,pretrain; required to run one.")] = None,
    name: Annotated[str | None, typer.Option(help="Name, unique on this machine [default: its stages].")] = None,
    slots: Annotated[int, typer.Option(min=0, help="CPU slots it lends to jobs.")] = 2,
    gpus: Annotated[str, typer.Option(help="GPUs it lends to jobs, e.g. 0,1 or 0-7.")] = "",
) -> None:
    """Run a worker for some stages on this machine, or drain one."""
    import importlib
    import sys

    from modelyard.cli.errors import WrongUsage
    from modelyard.kit.garbage import without_collections

    if context.invoked_subcommand is not None:
        return
    if stages is None:
        raise WrongUsage("--stages is missing: name the stages to serve, e.g. modelyard worker --stages finetune,pretrain")
    room = importlib.import_module("modelyard.workers.main")  # by name: the rooms do not import each other
    parent = room.start_parent()  # before anything else is imported, which takes as long as the parent takes
    with without_collections():
        from modelyard.cli.worker_options import parse_gpus, parse_stages

        chosen = parse_stages(stages)
    sys.exit(room.main(name or "-".join(chosen), chosen, slots, parse_gpus(gpus), parent))


def drain(
    name: WorkerName,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it runs no job.")] = False,
    timeout: Annotated[float | None, typer.Option(help="Give up waiting after so many seconds (exit code 124).")] = None,
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """Let a worker take no more jobs; running ones save and continue elsewhere. It stays up until `undrain`."""
    from modelyard.cli.console import print_json, say
    from modelyard.cli.waiting import wait_until

    with _client(data_dir) as client:
        worker = client.post(f"/v1/workers/{_look(client, name)['id']}/drain")
        if wait:
            worker = wait_until(
                lambda: _look(client, worker["id"]),
                lambda seen: seen["state"] in {"drained", "offline"},
                lambda seen: None,
                timeout,
            )
    print_json(worker) if json else say(f"worker {worker['id']} is {worker['state']}")


def undrain(name: WorkerName, json: JsonOption = False, data_dir: ClientDataDir = None) -> None:
    """Let a drained worker take jobs again."""
    from modelyard.cli.console import print_json, say

    with _client(data_dir) as client:
        worker = client.post(f"/v1/workers/{_look(client, name)['id']}/undrain")
    print_json(worker) if json else say(f"worker {worker['id']} is {worker['state']}")


def find_worker(workers: list[Document], name: str) -> Document:
    """The worker of that id, or the only one of that name. Raises `NotFound`, or `WrongUsage` if several have it."""
    from modelyard.cli.errors import NotFound, WrongUsage

    exact = [worker for worker in workers if worker["id"] == name]
    found = exact or [worker for worker in workers if worker["id"].partition("@")[0] == name]
    ids = ", ".join(worker["id"] for worker in found or workers) or "none"
    if not found:
        raise NotFound(f"There is no worker {name}; there are: {ids}")
    if len(found) > 1:
        raise WrongUsage(f"Several workers are called {name}: name one of {ids}")
    return found[0]


def _look(client: "Client", name: str) -> Document:
    return find_worker(client.get("/v1/workers")["data"], name)


def _client(data_dir: Path | None) -> "Client":
    from modelyard.cli.client import Client
    from modelyard.cli.credentials import find_credentials

    credentials = find_credentials(data_dir)
    return Client(credentials.api_url, credentials.api_key)

"""Commands for the platform as a whole: up, down, quickstart, doctor, version."""

from typing import Annotated, Any

import typer

from modelyard.cli.credentials import DEFAULT_DATA_DIR
from modelyard.cli.options import JsonOption, ServerDataDir

Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the API [default: 8080, or the next free one].")]


def register(app: typer.Typer) -> None:
    """Add these commands to the `modelyard` command."""
    for command in (up, down, quickstart, doctor, version):
        app.command()(command)


def up(
    data_dir: ServerDataDir = DEFAULT_DATA_DIR,
    port: Port = None,
    workers: Annotated[str, typer.Option(help="all, none, or some of data,train,judge,serve.")] = "all",
    detach: Annotated[bool, typer.Option("--detach", help="Return when everything answers; `modelyard down` stops it.")] = False,
    json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not show where everything is, nor a new API key.")] = False,
) -> None:
    """Start a whole platform on this machine: broker, API, scheduler, workers, Flower."""
    from modelyard.cli.console import print_json
    from modelyard.cli.platform.panel import show_panel
    from modelyard.cli.platform.start import UpOptions, run_platform, start_detached

    options = UpOptions(data_dir, port, workers)

    def announce(ready: dict[str, Any], is_new_key: bool) -> None:
        if not quiet:
            show_panel(ready, is_new_key, detach)
        if json:
            print_json(ready)

    if not detach:
        run_platform(options, announce)
        return
    announce(*start_detached(options))


def down(data_dir: ServerDataDir = DEFAULT_DATA_DIR, json: JsonOption = False) -> None:
    """Stop the platform of a data directory. Running jobs save and leave; they go on at the next start."""
    from modelyard.cli.console import print_json, say
    from modelyard.cli.platform.stop import stop_platform
    from modelyard.kit.settings import Settings

    was_running = stop_platform(data_dir.resolve(), Settings(data_dir=data_dir).stop_grace_seconds)
    say("stopped" if was_running else f"nothing was running in {data_dir.resolve()}")
    if json:
        print_json({"data_dir": str(data_dir.resolve()), "was_running": was_running})


def quickstart(
    data_dir: ServerDataDir = DEFAULT_DATA_DIR,
    port: Port = None,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the platform at the end.")] = False,
    json: JsonOption = False,
) -> None:
    """Take one real model through its whole life: data, training, prompts, evaluation, serving, monitoring."""
    from modelyard.cli.quickstart.run import run_quickstart

    run_quickstart(data_dir, port, stop, json)


def doctor(
    data_dir: ServerDataDir = DEFAULT_DATA_DIR,
    check_invariants: Annotated[
        bool, typer.Option("--check-invariants", help="Ask the API whether what must always hold of all jobs does hold.")
    ] = False,
    deep: Annotated[bool, typer.Option("--deep", help="With --check-invariants: read every artifact, not only sizes.")] = False,
    json: JsonOption = False,
) -> None:
    """Check the broker, the database, disk space, GPUs, Flower, and that every queue is served."""
    if check_invariants:
        from modelyard.cli.doctor.invariants import report_invariants

        # The default folder means: wherever a client would look.
        return report_invariants(None if data_dir == DEFAULT_DATA_DIR else data_dir, deep, json)
    from modelyard.cli.doctor.report import report

    return report(data_dir, json)


def version(json: JsonOption = False) -> None:
    """Print the version."""
    from importlib.metadata import version as version_of

    from modelyard.cli.console import print_json

    found = version_of("modelyard")
    print_json({"version": found}) if json else print(found)

"""Commands that are one process of the platform each: api, scheduler, flower. `up` and compose start them."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import uvicorn


def register(app: typer.Typer) -> None:
    """Add these commands to the `modelyard` command."""
    for command in (api, scheduler, flower):
        app.command()(command)


def api(
    host: Annotated[str | None, typer.Option(help="Address to listen on [default: MODELYARD_API_HOST].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [default: MODELYARD_API_PORT].")] = None,
    descriptor: Annotated[int | None, typer.Option(hidden=True, help="An open socket to listen on, from `up`.")] = None,
) -> None:
    """Run the HTTP API."""
    import socket

    from modelyard.kit.garbage import without_collections

    with without_collections():
        import uvicorn

        config = _configure(host, port)
        config.load()
    sockets = None if descriptor is None else [socket.socket(fileno=descriptor)]
    uvicorn.Server(config).run(sockets=sockets)


def _configure(host: str | None, port: int | None) -> "uvicorn.Config":
    import uvicorn

    from modelyard.kit.settings import get_settings

    settings = get_settings()
    return uvicorn.Config(
        "modelyard.api.app:create_server",
        factory=True,
        host=host or settings.api_host,
        port=settings.api_port if port is None else port,
        log_level=settings.log_level.lower(),
        access_log=False,
        # Event streams never end by themselves.
        timeout_graceful_shutdown=3,
    )


def scheduler() -> None:
    """Run the scheduler: it relays lost tickets, ends dead leases and advances pipelines."""
    # By name: the rooms do not import each other, this command only starts a process of another room.
    start("modelyard.scheduler.loop")


def flower(
    address: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port to listen on [default: MODELYARD_FLOWER_PORT].")] = None,
) -> None:
    """Run Flower, to watch queues and workers, behind a login (MODELYARD_FLOWER_USER, MODELYARD_FLOWER_PASSWORD)."""
    import os

    from modelyard.cli.errors import WrongUsage
    from modelyard.domain.specs.registry import STAGES
    from modelyard.kit.queue import declare_queues, ensure_event_loop, make_app
    from modelyard.kit.settings import get_settings

    settings = get_settings()
    if settings.flower_password is None:
        raise WrongUsage("Flower does not start without a login: set MODELYARD_FLOWER_PASSWORD")
    # In the environment, not on the command line, where every user of the machine could read it.
    os.environ["FLOWER_BASIC_AUTH"] = f"{settings.flower_user}:{settings.flower_password.get_secret_value()}"
    os.environ.pop("FLOWER_UNAUTHENTICATED_API", None)
    ensure_event_loop()
    app = make_app(settings)
    declare_queues(app, STAGES)
    chosen = settings.flower_port if port is None else port
    app.start(["flower", f"--address={address}", f"--port={chosen}", "--purge_offline_workers=60"])


def start(module: str, *arguments: object) -> None:
    """Run `main` of another room's module, and leave with the exit code it returns."""
    import importlib
    import sys

    from modelyard.kit.garbage import without_collections

    with without_collections():
        room = importlib.import_module(module)
    sys.exit(room.main(*arguments))

"""Commands for whoever runs the servers: migrate, keys create. They talk to the database, not to the API."""

from typing import Annotated

import typer

from modelyard.cli.options import JsonOption


def register(app: typer.Typer) -> None:
    """Add these commands to the `modelyard` command."""
    app.command()(migrate)
    keys = typer.Typer(help="Make API keys.", no_args_is_help=True)
    # A callback keeps `create` a command of its own although it is the only one.
    keys.callback()(lambda: None)
    keys.command("create")(create_key)
    app.add_typer(keys, name="keys")


def migrate() -> None:
    """Bring the database to this version's tables; harmless to repeat. `up` does it by itself."""
    from modelyard.cli.console import say
    from modelyard.domain.migrations import migrate as migrate_database
    from modelyard.kit.settings import get_settings

    migrate_database(get_settings().database)
    say("the database is up to date")


def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for; shown in lists.")],
    project: Annotated[str, typer.Option(help="Project it acts in; made if it is not there.")] = "default",
    scopes: Annotated[str, typer.Option(help="Some of read,write,admin.")] = "read,write,admin",
    json: JsonOption = False,
) -> None:
    """Make an API key and print it, this once: the platform keeps only its hash."""
    from modelyard.cli.console import print_json
    from modelyard.cli.errors import WrongUsage
    from modelyard.domain.projects import repository
    from modelyard.kit.database import Database
    from modelyard.kit.settings import get_settings

    chosen = tuple(scope.strip() for scope in scopes.split(",") if scope.strip())
    if not chosen or set(chosen) - set(repository.SCOPES):
        raise WrongUsage(f"--scopes {scopes!r} names no scopes: use some of {', '.join(repository.SCOPES)}")
    database = Database(get_settings().database)
    try:
        with database.write() as session:
            owner = repository.get_or_create_project(session, project)
            key, secret = repository.create_key(session, owner.id, name, chosen)
            made = {"id": key.id, "name": name, "project": project, "scopes": list(chosen), "api_key": secret}
    finally:
        database.dispose()
    print_json(made) if json else print(secret)

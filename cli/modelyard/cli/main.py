"""The `modelyard` command. Imports nothing heavy: `modelyard --help` must answer at once."""

import os
import sys

import typer

from modelyard.cli.commands import (
    administration,
    checkpoints,
    datasets,
    decisions,
    events,
    jobs,
    planning,
    platform,
    processes,
    projects,
    reproduction,
    schedules,
    sweeps,
    usage,
    workers,
)
from modelyard.cli.errors import CommandError
from modelyard.cli.translation import translate

app = typer.Typer(
    name="modelyard",
    help="The yard where language models are built, launched and refitted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
platform.register(app)
jobs.register(app)
planning.register(app)
events.register(app)
decisions.register(app)
reproduction.register(app)
checkpoints.register(app)
schedules.register(app)
sweeps.register(app)
datasets.register(app)
processes.register(app)
workers.register(app)
administration.register(app)
projects.register(app)
usage.register(app)


def main() -> None:
    """Run a command; an expected error becomes one message on standard error and its exit code."""
    try:
        app()
    except BrokenPipeError:
        # The reader of our output left (`modelyard jobs | head`); the interpreter must not try to flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        expected = error if isinstance(error, CommandError) else translate(error)
        if expected is None:
            raise
        print(f"modelyard: {expected}", file=sys.stderr)
        sys.exit(expected.exit_code)

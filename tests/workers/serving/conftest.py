"""A server of a tiny model that never ends an answer by itself, as a process, shared by the tests of a module."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_server import CONTEXT_TOKENS, MODULE, RunningServer, deployment


@pytest.fixture(scope="session")
def endless_model(tmp_path_factory: pytest.TempPathFactory, write_model: Any) -> Path:
    """Folder of a model whose answers end only at their limit."""
    folder: Path = write_model(tmp_path_factory.mktemp("endless"), seed=3, context_tokens=CONTEXT_TOKENS, is_endless=True)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, endless_model: Path, recipe_in: Any) -> Iterator[RunningServer]:
    """A ready server; ended after the module."""
    recipe = recipe_in(tmp_path_factory.mktemp("server"))
    process = recipe.start(MODULE, deployment(endless_model))
    url = recipe.wait_for("ready", process)["url"]
    yield RunningServer(url, endless_model)
    process.terminate()
    process.communicate(timeout=60)

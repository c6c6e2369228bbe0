"""`modelyard worker`: what it refuses, and how workers are named."""

from typing import Any

import pytest

from modelyard.cli.commands.workers import find_worker
from modelyard.cli.errors import NotFound, WrongUsage
from tests.cli.conftest import Run

WORKERS: list[dict[str, Any]] = [{"id": name} for name in ("train@one", "data@one", "train@two")]


class TestFind:
    @pytest.mark.parametrize(("name", "found"), [("train@two", "train@two"), ("data", "data@one")])
    def test_by_id_or_by_a_name_only_one_has(self, name: str, found: str) -> None:
        assert find_worker(WORKERS, name)["id"] == found

    def test_a_name_of_several(self) -> None:
        with pytest.raises(WrongUsage, match="train@one, train@two"):
            find_worker(WORKERS, "train")

    def test_nobody(self) -> None:
        with pytest.raises(NotFound, match="data@one"):
            find_worker(WORKERS, "tra")


class TestUse:
    def test_without_stages(self, modelyard: Run) -> None:
        done = modelyard("worker", "--slots", "1")
        assert (done.returncode, done.stdout) == (2, "")
        assert "--stages" in done.stderr

    def test_unknown_stage(self, modelyard: Run) -> None:
        done = modelyard("worker", "--stages", "cooking")
        assert done.returncode == 2
        assert "cooking" in done.stderr

    def test_help_names_what_it_can(self, modelyard: Run) -> None:
        text = modelyard("worker", "--help").stdout
        for word in ("--stages", "--gpus", "drain", "undrain"):
            assert word in text

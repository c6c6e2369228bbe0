"""`modelyard sweep` and `modelyard sweeps` against a running API."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from factories import Factory
from sweep_runs import BODY, conduct_to_its_end

from modelyard.cli.client import Client
from modelyard.cli.errors import JobFailed, WrongUsage
from modelyard.cli.sweeps import follow_sweep, raise_if_sweep_failed
from modelyard.domain.sweeps.tables import Sweep
from modelyard.kit.database import Database
from modelyard.scheduler.sweeps import conduct_sweeps

EXAMPLE = Path(__file__).parents[2] / "examples" / "sweep.yaml"
Command = Callable[..., str]


@pytest.fixture
def yard(sqlite_url: str) -> Factory:
    """The database behind the API, with a dataset to train on."""
    factory = Factory(Database(sqlite_url))
    factory.registered()
    return factory


def write_sweep(folder: Path, **changes: Any) -> str:
    """A sweep in a file."""
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump({**BODY, **changes}))
    return str(file)


class TestSweep:
    def test_from_its_file_to_its_best_trial(self, client: Client, command: Command, yard: Factory, tmp_path: Path) -> None:
        id_ = command("sweep", write_sweep(tmp_path))
        conduct_to_its_end(yard, yard.get(Sweep, id_))
        shown = command("sweep", "show", id_)
        assert "search is succeeded: 4 of 4 trials (1 finished, 3 stopped)" in shown
        best = client.get(f"/v1/sweeps/{id_}")["best"]
        assert [line.split()[:3] for line in shown.splitlines() if " * " in line] == [[str(best), "*", "finished"]]
        assert json.loads(command("sweep", "show", "search", "--json"))["promoted"]["name"] == "best"
        (row,) = [line for line in command("sweeps").splitlines() if id_ in line]
        assert row.split()[1:3] == ["search", "succeeded"]

    def test_pause_resume_and_cancel(self, client: Client, command: Command, yard: Factory, tmp_path: Path) -> None:
        id_ = command("sweep", "start", write_sweep(tmp_path))
        assert command("sweep", "pause", "search") == f"{id_} is paused"
        assert command("sweep", "resume", id_) == f"{id_} is running"
        assert command("sweep", "cancel", id_) == f"{id_} is cancelling"
        conduct_sweeps(yard.database)
        assert client.get(f"/v1/sweeps/{id_}")["state"] == "cancelled"

    def test_waiting_for_one_that_fails(self, client: Client, command: Command, yard: Factory, tmp_path: Path) -> None:
        body = {**BODY, "name": "hopeless", "metric": "bleu", "trials": 3}
        id_ = client.post("/v1/sweeps", body)["id"]
        conduct_to_its_end(yard, yard.get(Sweep, id_))
        with pytest.raises(JobFailed, match="hopeless is failed: the first 3 trials failed: it reported no metric 'bleu'"):
            raise_if_sweep_failed(follow_sweep(client, id_, 10))

    def test_the_example(self, command: Command, client: Client, yard: Factory) -> None:
        with pytest.raises(WrongUsage, match="shakespeare"):
            command("sweep", str(EXAMPLE))
        yard.registered(name="shakespeare")
        made = json.loads(command("sweep", str(EXAMPLE), "--json"))
        assert (made["rungs"], made["trials"]) == ([50, 100, 200], 16)

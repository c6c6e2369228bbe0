"""`modelyard checkpoints` and `submit --resume-from` against a running API."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from factories import Factory, spec_of, write
from typer.testing import CliRunner

from modelyard.cli.client import Client
from modelyard.cli.errors import Conflict, NotFound, WrongUsage
from modelyard.cli.main import app
from modelyard.domain.jobs.recording import add_checkpoint
from modelyard.domain.jobs.tables import Job
from modelyard.kit.database import Database
from modelyard.kit.settings import Settings
from modelyard.kit.storage import ArtifactStore

Command = Callable[..., str]


@pytest.fixture
def factory(sqlite_url: str) -> Iterator[Factory]:
    """Makes rows where the API looks."""
    database = Database(sqlite_url)
    yield Factory(database)
    database.dispose()


@pytest.fixture
def job(factory: Factory, settings: Settings, tmp_path: Path) -> Job:
    """A running job with one stored checkpoint."""
    store = ArtifactStore(settings.artifacts, tmp_path / "cache")
    factory.registered()
    job = factory.running("pretrain")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "weights.pt").write_text("weights")
    manifest = store.put(tmp_path / "made", f"checkpoints/{job.id}/10")
    write(factory.database, add_checkpoint, job.id, 1, 10, f"checkpoints/{job.id}/10", manifest, {"loss": 2.5}, 0.0)
    return job


def test_look_verify_begin_and_remove(client: Client, command: Command, job: Job, settings: Settings, tmp_path: Path) -> None:
    (row,) = json.loads(command("checkpoints", "list", job.id, "--json"))["data"]
    table = command("checkpoints", "list", job.id)
    assert [word in table for word in (row["id"], "loss 2.5", "newest")] == [True] * 3
    assert command("checkpoints", "verify", row["id"]) == f"{row['id']} is whole"

    (tmp_path / "job.json").write_text(json.dumps({"spec": spec_of("pretrain")}))
    begun = command("submit", str(tmp_path / "job.json"), "--resume-from", row["id"])
    assert client.get_job(begun)["resume_from_step"] == 10
    with pytest.raises(Conflict, match=begun):
        command("checkpoints", "delete", row["id"])
    for job_id in (begun, job.id):
        client.cancel_job(job_id)

    (Path(settings.artifacts) / f"checkpoints/{job.id}/10/weights.pt").unlink()
    spoiled = CliRunner().invoke(app, ["checkpoints", "verify", row["id"]])
    assert (spoiled.exit_code, "weights.pt" in spoiled.stdout, "missing" in spoiled.stdout) == (1, True, True)
    with pytest.raises(NotFound):
        command("checkpoints", "verify", "ckpt_none")


def test_one_job_only(command: Command, tmp_path: Path) -> None:
    (tmp_path / "jobs.json").write_text(json.dumps([{"spec": spec_of("pretrain")}]))
    with pytest.raises(WrongUsage, match="--resume-from is for one job"):
        command("submit", str(tmp_path / "jobs.json"), "--resume-from", "ckpt_1")

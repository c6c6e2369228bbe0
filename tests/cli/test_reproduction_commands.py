"""`modelyard reproduce`, `modelyard reproduction` and `modelyard manifest` against a running API."""

from collections.abc import Callable

import pytest
from factories import Factory
from typer.testing import CliRunner

from modelyard.cli.client import Client
from modelyard.cli.errors import Conflict, NotFound
from modelyard.cli.main import app
from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.recording import Batch, record
from modelyard.domain.jobs.tables import Job
from modelyard.kit.database import Database

Command = Callable[..., str]


@pytest.fixture
def yard(client: Client, sqlite_url: str) -> Factory:
    """The database behind the API, with a dataset to train on."""
    factory = Factory(Database(sqlite_url))
    factory.registered()
    return factory


def train(yard: Factory, job: Job, loss: float) -> None:
    """Let a waiting job report one loss and succeed."""
    yard.claimed(job)
    events = [
        {"type": "manifest", "at": 1.0, "manifest": {"seed": 0, "loss": loss}},
        {"type": "metric", "at": 1.0, "step": 1, "values": {"loss": loss}},
    ]
    with yard.database.write() as session:
        record(session, job.id, 1, Batch(events, events_offset=1), 1.0)
        finish(session, job.id, 1, Outcome.SUCCEEDED)


class TestReproduce:
    def test_says_what_differs_and_leaves_with_1(self, command: Command, yard: Factory) -> None:
        job = yard.job("pretrain")
        with pytest.raises(Conflict, match="only a job that succeeded"):
            command("reproduce", job.id)
        train(yard, job, 2.5)
        made = command("reproduce", job.id)
        assert "is queued" in command("reproduction", made)
        train(yard, yard.get(Job, made), 2.75)
        done = CliRunner().invoke(app, ["reproduction", made])
        assert done.exit_code == 1
        assert "loss was 2.5 and is 2.75" in done.stdout

    def test_says_that_nothing_differs(self, command: Command, yard: Factory) -> None:
        job = yard.job("pretrain")
        train(yard, job, 2.5)
        made = command("reproduce", job.id)
        train(yard, yard.get(Job, made), 2.5)
        assert command("reproduction", made).startswith("Identical")


class TestManifest:
    def test_is_printed(self, command: Command, yard: Factory) -> None:
        job = yard.job("pretrain")
        with pytest.raises(NotFound, match="has no manifest"):
            command("manifest", job.id)
        train(yard, job, 2.5)
        assert '"seed": 0' in command("manifest", job.id)

"""`modelyard approve | reject | retry | schedules` against a running API."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from factories import spec_of

from modelyard.cli.client import Client
from modelyard.cli.errors import Conflict, NotFound

EXAMPLE = Path(__file__).parents[2] / "examples" / "schedule.yaml"
Command = Callable[..., str]


def waiting(client: Client) -> str:
    """The id of a job that waits for approval."""
    return str(client.submit_job({"spec": spec_of("import"), "needs_approval": True})["id"])


class TestSubmitMany:
    def test_a_list_is_one_batch(self, client: Client, command: Command, tmp_path: Path) -> None:
        file = tmp_path / "jobs.json"
        file.write_text(json.dumps([{"spec": spec_of("import", name=f"base-{number}")} for number in range(3)]))
        ids = command("submit", str(file), "--idempotency-key", "one").splitlines()
        assert [client.get_job(id_)["name"] for id_ in ids] == ["base-0", "base-1", "base-2"]
        again = json.loads(command("submit", str(file), "--idempotency-key", "one", "--json"))["data"]
        assert [job["id"] for job in again] == ids


class TestDecide:
    def test_approve_reject_and_retry(self, client: Client, command: Command) -> None:
        fine, dear = waiting(client), waiting(client)
        assert command("approve", fine, "--comment", "fine") == f"{fine} is queued"
        assert command("reject", dear, "--reason", "too dear") == f"{dear} is cancelled"
        assert client.get_job(dear)["message"].endswith("too dear")
        again = command("retry", dear)
        assert again.endswith(f"is held, again for {dear}")
        with pytest.raises(Conflict, match="already"):
            command("retry", dear)

    def test_retry_of_a_pipeline(self, client: Client, command: Command) -> None:
        pipeline = client.submit_pipeline({"name": "test", "jobs": {"a": {"spec": spec_of("import")}}})
        client.post(f"/v1/pipelines/{pipeline['id']}/cancel")
        shown: dict[str, Any] = json.loads(command("retry", pipeline["id"], "--json"))
        assert ([job["state"] for job in shown["jobs"]], shown["state"]) == (["queued"], "running")


class TestSchedules:
    def test_the_example_from_its_making_to_its_end(self, client: Client, command: Command) -> None:
        id_, *times = command("schedules", "create", str(EXAMPLE)).splitlines()
        assert (id_[:6], len(times)) == ("sched_", 5)
        assert "bard-every-night" in command("schedules", "list")
        assert command("schedules", "pause", "bard-every-night") == "bard-every-night is paused"
        assert " paused" in command("schedules", "list")
        assert command("schedules", "resume", id_).startswith("bard-every-night is due next at 20")
        made = command("schedules", "run", id_)
        assert {job["step"]: job["state"] for job in client.get_pipeline(made)["jobs"]} == {"corpus": "queued", "model": "held"}
        assert made in command("schedules", "runs", id_)
        assert command("schedules", "delete", id_) == f"{id_} is deleted"
        with pytest.raises(NotFound):
            command("schedules", "pause", id_)

"""`modelyard events` against a running API."""

import json
from collections.abc import Callable

import pytest
from factories import spec_of

from modelyard.cli.client import Client
from modelyard.cli.errors import NotFound

Command = Callable[..., str]


def test_newest_last_and_no_more_than_asked_for(client: Client, command: Command) -> None:
    job_id = client.submit_job({"spec": spec_of("import"), "needs_approval": True})["id"]
    client.post(f"/v1/jobs/{job_id}/approve", {"comment": "fine"})
    client.cancel_job(job_id)
    whats = [event["what"] for event in json.loads(command("events", job_id, "--json"))["data"]]
    assert whats == ["held", "approved", "queued", "cancelled"]
    shown = command("events", job_id)
    assert "waits for approval" in shown
    assert shown.index("approved") < shown.index("cancelled")
    last = command("events", job_id, "--limit", "1")
    assert "cancelled" in last
    assert "approved" not in last
    with pytest.raises(NotFound):
        command("events", "job_none")

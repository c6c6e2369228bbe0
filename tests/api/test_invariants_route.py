"""The examination over HTTP: for administrators, and honest about what it found."""

from typing import Any

import pytest
from running_api import Api


class TestInvariants:
    @pytest.fixture(autouse=True)
    def _no_waiting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("modelyard.api.invariants.endpoints.PATIENCE_SECONDS", 0.0)
        monkeypatch.setattr("modelyard.api.invariants.endpoints.PATIENCE_INTERVALS", 0)

    def test_all_is_well_but_nobody_could_count_tickets(self, api: Api) -> None:
        api.create()
        answer = api.client.get("/v1/invariants").json()
        assert (answer["ok"], answer["violations"]) == (True, [])
        assert answer["checked"]["jobs"] == 1
        assert "the broker does not answer" in answer["skipped"][0]

    def test_says_which_job_breaks_what(self, api: Api) -> None:
        job = api.factory.running()
        api.factory.update(job, lease_expires_at=None)
        answer = api.client.get("/v1/invariants", params={"deep": True}).json()
        assert answer["ok"] is False
        assert [(each["invariant"], each["job_id"]) for each in answer["violations"]] == [("open_job_has_a_reason", job.id)]
        assert "without a lease" in answer["violations"][0]["message"]

    def test_is_for_administrators(self, api: Api, check_problem: Any) -> None:
        check_problem(api.with_key(api.key("read", "write")).get("/v1/invariants"), 403, "missing_scope", "Authorization")

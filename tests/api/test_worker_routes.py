"""Workers over HTTP: what they lend, draining them, and machines jobs keep away from."""

from typing import Any

import pytest
from factories import write
from running_api import Api

from modelyard.domain.workers.repository import SILENT_SECONDS
from modelyard.domain.workers.reservations import reserve


def show(api: Api, name: str = "train@host") -> dict[str, Any]:
    """A worker as the list shows it."""
    return next(worker for worker in api.client.get("/v1/workers").json()["data"] if worker["id"] == name)


class TestList:
    def test_says_what_is_reserved(self, api_on_both: Api) -> None:
        api = api_on_both
        api.factory.worker(cpu=4)
        api.factory.registered()
        for slots in (1, 2):
            write(api.factory.database, reserve, "train@host", api.factory.job("pretrain", slots=slots).id, "cpu", slots)
        assert show(api)["reserved"] == {"cpu": 3}

    def test_one_that_is_silent_is_offline(self, api: Api) -> None:
        api.factory.worker(silent_seconds=SILENT_SECONDS + 1)
        assert show(api)["state"] == "offline"


class TestDrain:
    def test_draining_until_it_runs_nothing(self, api_on_both: Api) -> None:
        api = api_on_both
        api.factory.worker()
        api.factory.running()
        answer = api.client.post("/v1/workers/train@host/drain")
        assert (answer.status_code, answer.json()["state"]) == (202, "draining")
        assert api.client.post("/v1/workers/train@host/drain").status_code == 202, "asking twice is asking once"
        assert "train@host" not in api.client.get("/v1/queues").text

    def test_drained_and_back(self, api: Api) -> None:
        api.factory.worker()
        assert api.client.post("/v1/workers/train@host/drain").json()["state"] == "drained"
        assert show(api)["state"] == "drained"
        answer = api.client.post("/v1/workers/train@host/undrain")
        assert (answer.status_code, answer.json()["state"]) == (200, "online")

    def test_a_drained_worker_that_went_away_can_be_undrained(self, api: Api) -> None:
        api.factory.worker(state="offline", drain_requested=True)
        assert api.client.post("/v1/workers/train@host/drain").status_code == 202
        assert api.client.post("/v1/workers/train@host/undrain").json()["state"] == "offline"

    @pytest.mark.parametrize("action", ["drain", "undrain"])
    def test_unknown(self, api: Api, check_problem: Any, action: str) -> None:
        check_problem(api.client.post(f"/v1/workers/nobody@host/{action}"), 404, "not_found", "worker_id")

    @pytest.mark.parametrize("how", [{"state": "offline"}, {"silent_seconds": SILENT_SECONDS + 1}])
    def test_offline(self, api: Api, check_problem: Any, how: dict[str, Any]) -> None:
        api.factory.worker(**how)
        body = check_problem(api.client.post("/v1/workers/train@host/drain"), 409, "conflict", "worker_id")
        assert "/v1/hosts/host/exclude" in body["detail"]
        assert show(api)["state"] == "offline"

    def test_only_for_admins(self, api: Api, check_problem: Any) -> None:
        api.factory.worker()
        writer = api.with_key(api.key("read", "write"))
        for path in ("workers/train@host/drain", "workers/train@host/undrain", "hosts/host/include"):
            check_problem(writer.post(f"/v1/{path}"), 403, "missing_scope")
        check_problem(writer.post("/v1/hosts/host/exclude", json={"minutes": 1, "reason": "r"}), 403, "missing_scope")


class TestExclude:
    def test_a_host_and_back(self, api_on_both: Api) -> None:
        api = api_on_both
        api.factory.worker()
        answer = api.client.post("/v1/hosts/host/exclude", json={"minutes": 30, "reason": "New driver"})
        assert answer.status_code == 200, answer.text
        worker = show(api)
        assert worker["excluded_because"] == answer.json()["excluded_because"] == "New driver"
        assert worker["excluded_until"] == answer.json()["excluded_until"]
        assert "train@host" not in api.client.get("/v1/queues").text
        assert api.client.post("/v1/hosts/host/include").json()["excluded_until"] is None
        assert show(api)["excluded_until"] is None

    def test_unknown(self, api: Api, check_problem: Any) -> None:
        check_problem(api.client.post("/v1/hosts/nowhere/include"), 404, "not_found", "name")

    @pytest.mark.parametrize(
        ("body", "field"),
        [({"minutes": 0, "reason": "r"}, "minutes"), ({"minutes": 1}, "reason"), ({"minutes": 1, "reason": ""}, "reason")],
    )
    def test_wrong(self, api: Api, check_problem: Any, body: dict[str, Any], field: str) -> None:
        api.factory.worker()
        check_problem(api.client.post("/v1/hosts/host/exclude", json=body), 422, "invalid_request", field)

"""What no person means to send: half characters, and times at the edges of the calendar."""

import json
from typing import Any

import pytest
from factories import spec_of
from running_api import Api

HALF = "\ud800"
SEARCHED = {"spec.steps": {"type": "categorical", "choices": [1, 2]}}
WRITTEN = r"\ud800"


def step(**changes: Any) -> dict[str, Any]:
    """A pretraining job whose dataset has a name no database could keep."""
    return {"spec": spec_of("pretrain", dataset=HALF), **changes}


class TestHalfCharacters:
    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/v1/jobs", step()),
            ("/v1/jobs/batch", {"jobs": [{"spec": spec_of("import")}, step()]}),
            ("/v1/jobs/plan", step()),
            ("/v1/pipelines", {"name": "p", "jobs": {"a": step()}}),
            ("/v1/schedules", {"name": "s", "cron": "0 0 1 1 *", "job": step()}),
            ("/v1/sweeps", {"name": "s", "job": step(), "parameters": SEARCHED, "metric": "validation_loss"}),
        ],
    )
    def test_are_refused(self, api: Api, check_problem: Any, path: str, body: dict[str, Any]) -> None:
        answer = api.client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
        (entry,) = check_problem(answer, 422, "invalid_request", "body")["errors"]
        assert entry["value"] == WRITTEN
        assert api.client.get("/v1/jobs").json()["data"] == []


class TestStartTimes:
    @pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00"])
    def test_nobody_can_show_are_refused(self, api: Api, check_problem: Any, moment: str) -> None:
        body = {"spec": spec_of("import"), "start_at": moment}
        (entry,) = check_problem(api.client.post("/v1/jobs", json=body), 422, "invalid_request", "start_at")["errors"]
        assert entry["value"] == moment
        assert api.client.get("/v1/jobs").json()["data"] == []

    @pytest.mark.parametrize(
        ("moment", "state"),
        [("1970-01-01T00:00:00Z", "queued"), ("2020-02-29T12:00:00+05:30", "queued"), ("9998-12-31T23:59:59Z", "held")],
    )
    def test_at_the_edges_are_kept(self, api: Api, moment: str, state: str) -> None:
        made = api.client.post("/v1/jobs", json={"spec": spec_of("import"), "start_at": moment})
        assert (made.status_code, made.json()["state"]) == (202, state)
        assert [job["id"] for job in api.client.get("/v1/jobs").json()["data"]] == [made.json()["id"]]

"""The ledger over HTTP, and as the command shows it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from factories import write
from ledger_rows import rebook
from running_api import Api
from sqlmodel import select
from typer.testing import CliRunner

from modelyard.cli.client import Client
from modelyard.cli.main import app as command
from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.tables import Job
from modelyard.domain.usage.tables import UsageEntry

HOUR = 3600.0


def used(api: Api, project: str = "default", **seconds: float) -> Job:
    """A finished job whose attempt used so many slot-seconds."""
    job = api.factory.running("import", project=project)
    write(api.factory.database, finish, job.id, 1, Outcome.SUCCEEDED)
    with api.factory.database.write() as session:
        rebook(session, lambda entry: {"starting": 0.0, "idle": 0.0, **seconds} if entry.job_id == job.id else {})
    return job


class TestReport:
    def test_hours_by_job_largest_first(self, api_on_both: Api) -> None:
        small = used(api_on_both, useful=HOUR, redone=HOUR)
        large = used(api_on_both, useful=3 * HOUR, waiting_seconds=HOUR)
        used(api_on_both, project="other", useful=9 * HOUR)
        body = api_on_both.client.get("/v1/usage").json()
        assert [row["key"] for row in body["data"]] == [large.id, small.id]
        assert body["data"][0]["waiting_hours"] == 1.0
        hours = body["data"][1]["gpu_hours"]
        assert hours == {"total": 2.0, "useful": 1.0, "redone": 1.0, "starting": 0.0, "idle": 0.0, "failed": 0.0}
        assert body["data"][1]["useful_share"] == 0.5
        assert api_on_both.client.get("/v1/usage", params={"limit": 1}).json()["has_more"]

    def test_other_projects_are_for_admins(self, api: Api, check_problem: Any) -> None:
        used(api, useful=HOUR)
        used(api, project="other", useful=2 * HOUR)
        everything = api.client.get("/v1/usage", params={"project": "all", "group_by": "project"}).json()
        assert [(row["key"], row["gpu_hours"]["useful"]) for row in everything["data"]] == [("other", 2.0), ("default", 1.0)]
        other = api.client.get("/v1/usage", params={"project": "other", "group_by": "kind"}).json()
        assert [row["gpu_hours"]["useful"] for row in other["data"]] == [2.0]
        check_problem(api.client.get("/v1/usage", params={"project": "nobody"}), 404, "not_found", "project")
        reader = api.with_key(api.key("read"))
        check_problem(reader.get("/v1/usage", params={"project": "other"}), 403, "missing_scope", "project")

    @pytest.mark.parametrize(
        ("question", "field"),
        [
            ({"group_by": "color"}, "query.group_by"),
            ({"since": "yesterday"}, "query.since"),
            ({"since": "2026-01-01T00:00:00"}, "query.since"),
            ({"since": "2026-02-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "until"),
            ({"limit": 0}, "query.limit"),
        ],
    )
    def test_questions_that_make_no_sense(self, api: Api, check_problem: Any, question: dict[str, Any], field: str) -> None:
        check_problem(api.client.get("/v1/usage", params=question), 422, "invalid_request", field)

    def test_a_job_by_attempt(self, api: Api, check_problem: Any) -> None:
        job = used(api, useful=HOUR)
        body = api.client.get(f"/v1/jobs/{job.id}/usage").json()
        assert [entry["gpu_hours"]["useful"] for entry in body["data"]] == [1.0]
        assert [row["gpu_hours"]["useful"] for row in body["totals"]] == [1.0]
        check_problem(api.client.get("/v1/jobs/job_none/usage"), 404, "not_found", "job_id")


class TestCommand:
    @pytest.fixture
    def run(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> Any:
        """The command against the application in this process: only the socket between them is left out."""

        class Connected(Client):
            """Stays open: the application's client belongs to the test."""

            def close(self) -> None:
                return

        connected = Connected("http://test", "unused")
        connected._http = api.client  # type: ignore[assignment]
        monkeypatch.setattr("modelyard.cli.client.connect", lambda data_dir: connected)
        return lambda *words: CliRunner().invoke(command, ["usage", *words])

    def test_shows_a_table_or_json(self, api: Api, run: Any) -> None:
        job = used(api, useful=HOUR, failed=HOUR)
        shown = run()
        assert job.id in shown.stdout
        assert "50 %" in shown.stdout
        assert json.loads(run("--json", "--by", "kind").stdout)["data"][0]["key"] == "import"

    def test_since_leaves_out_what_is_older(self, api: Api, run: Any) -> None:
        job = used(api, useful=HOUR)
        long_ago = (datetime.now(UTC) - timedelta(days=3)).timestamp()
        with api.factory.database.write() as session:
            session.exec(select(UsageEntry)).one().finished_at = long_ago
        assert job.id not in run("--since", "2d").stdout
        assert job.id in run("--since", "1w").stdout

    @pytest.mark.parametrize("since", ["soon", "7", "-1d", "99999999999w"])
    def test_a_period_it_cannot_read(self, run: Any, since: str) -> None:
        assert "--since" in str(run("--since", since).exception)

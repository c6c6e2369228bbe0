"""Pages of schedules."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from dashboard_yard import ATTACK, Yard, prepare

from modelyard.api.dashboard.schedules import show_local
from modelyard.domain.schedules.service import ScheduleRequest, create_schedule, fill_slot, note_failure
from modelyard.domain.schedules.tables import Schedule

LogIn = Callable[[str], httpx2.Client]


def make(yard: Yard, name: str, **request: Any) -> Schedule:
    """A schedule that submits a job each night in Berlin."""
    values: dict[str, Any] = {"cron": "0 3 * * *", "timezone": "Europe/Berlin", "job": {"spec": prepare(name)}, **request}
    with yard.platform.database.write() as session:
        return create_schedule(session, yard.project_id, ScheduleRequest(name=name, **values))


def let_a_time_come(yard: Yard, schedule: Schedule) -> None:
    """As if one of its times had just passed, and a scheduler looked."""
    with yard.platform.database.write() as session:
        row = session.get_one(Schedule, schedule.id)
        row.next_at = yard.platform.database.now() - 1
    with yard.platform.database.write() as session:
        fill_slot(session, schedule.id)


def row_of(text: str, schedule: Schedule) -> str:
    return " ".join(text.partition(f'id="{schedule.id}"')[2].partition("</tr>")[0].split())


class TestShowSchedules:
    def test_times_zone_next_and_last_run(self, yard: Yard, log_in: LogIn) -> None:
        schedule = make(yard, "nightly")
        client = log_in("read")
        before = row_of(client.get("/schedules").text, schedule)
        assert "<code>0 3 * * *</code>" in before
        assert "Europe/Berlin" in before
        assert ", 03:00" in before, "its next time, on the clocks there"
        assert ">active<" in before
        assert "/jobs/" not in before
        let_a_time_come(yard, schedule)
        after = row_of(client.get("/schedules").text, schedule)
        assert "/jobs/job_" in after
        assert ">queued<" in after
        let_a_time_come(yard, schedule)
        assert "Left out: the run before" in row_of(client.get("/schedules").text, schedule), "what keeps it"
        job = client.get(f"/schedules/{schedule.id}").text.partition('href="/jobs/')[2].partition('"')[0]
        log_in("write").post(f"/jobs/{job}/cancel")

    def test_one_whose_time_could_not_be_filled_says_why(self, yard: Yard, log_in: LogIn) -> None:
        schedule = make(yard, "troubled")
        with yard.platform.database.write() as session:
            note_failure(session, schedule.id, f"the disk is full {ATTACK}")
        row = row_of(log_in("read").get("/schedules").text, schedule)
        assert ">trying again<" in row
        assert "the disk is full &lt;img" in row
        assert "1 time in a row: the disk is full" in log_in("read").get(f"/schedules/{schedule.id}").text

    def test_pages(self, yard: Yard, log_in: LogIn) -> None:
        older, newer = make(yard, "older"), make(yard, "newer")
        first = log_in("read").get("/schedules?limit=1").text
        assert newer.id in first
        assert f"after={newer.id}" in first
        assert older.id in log_in("read").get(f"/schedules?limit=1&after={newer.id}").text


class TestShowSchedule:
    def test_writers_pause_resume_and_run(self, yard: Yard, log_in: LogIn) -> None:
        schedule = make(yard, "steered")
        path, writer, reader = f"/schedules/{schedule.id}", log_in("write"), log_in("read")
        assert "Pause</button>" not in reader.get(path).text
        assert "None of its times has come" in reader.get(path).text
        for wish, shown in (("pause", "Resume</button>"), ("resume", "Pause</button>"), ("run", "Run by hand")):
            assert writer.post(f"{path}/{wish}").headers["location"] == path
            assert shown in writer.get(path).text
        assert reader.post(f"{path}/pause").status_code == 403
        assert writer.post(f"{path}/pause", headers={"Origin": "http://elsewhere"}).status_code == 403
        assert "schema: text" in reader.get(path).text
        job = reader.get(path).text.partition('href="/jobs/')[2].partition('"')[0]
        writer.post(f"/jobs/{job}/cancel")
        assert "cancelled</span>" in reader.get(path).text

    def test_one_that_is_not_there(self, log_in: LogIn) -> None:
        assert log_in("read").get("/schedules/sched_none").status_code == 404


class TestShowLocal:
    @pytest.mark.parametrize(
        ("timezone", "shown"), [("UTC", "Sun 3 May 2026, 23:05"), ("Europe/Berlin", "Mon 4 May 2026, 01:05")]
    )
    def test_table(self, timezone: str, shown: str) -> None:
        assert show_local(datetime(2026, 5, 3, 23, 5, tzinfo=UTC), timezone) == shown

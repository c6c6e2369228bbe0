"""Several schedulers that come to the same slots at the same moment."""

from factories import Factory, spec_of, write
from sqlmodel import col, select
from waiting_processes import run_at_once

from modelyard.domain.jobs.tables import Job, JobEvent
from modelyard.domain.schedules.repository import list_due
from modelyard.domain.schedules.service import ScheduleRequest, change_schedule, create_schedule, fill_slot
from modelyard.domain.schedules.slots import FIRST_WAIT_SECONDS
from modelyard.domain.schedules.tables import Schedule, ScheduleSlot
from modelyard.scheduler.schedules import fill_slots

SCHEDULES = 12
PROCESSES = 4
FILL = """
import sys
from modelyard.kit.database import Database
from modelyard.scheduler.schedules import fill_slots
database = Database(sys.argv[1])
print("ready", flush=True)
input()
for _ in range(3):
    fill_slots(database)
"""


def make_due(factory: Factory, count: int) -> None:
    """Schedules one of whose times has just come."""
    job = {"spec": spec_of("import")}
    for number in range(count):
        request = ScheduleRequest(name=f"s{number}", cron="0 0 1 1 *", job=job)
        schedule = write(factory.database, create_schedule, factory.project_id, request)
        with factory.database.write() as session:
            session.get_one(Schedule, schedule.id).next_at = factory.database.now() - 1


class TestFillSlots:
    def test_four_schedulers_make_one_job_per_slot(self, factory: Factory, database_url: str) -> None:
        make_due(factory, SCHEDULES)
        ended = run_at_once(FILL, [[database_url]] * PROCESSES)
        assert [each.code for each in ended] == [0] * PROCESSES, ended
        assert not [each.complained for each in ended if "cannot be filled" in each.complained + each.said]
        slots = factory.find(select(ScheduleSlot))
        jobs = {job.id for job in factory.find(select(Job))}
        assert len({slot.schedule_id for slot in slots}) == len(slots) == SCHEDULES
        assert {slot.job_id for slot in slots} == jobs
        assert len(jobs) == SCHEDULES
        assert len(factory.find(select(JobEvent).where(col(JobEvent.job_id).in_(jobs)))) == SCHEDULES

    def test_one_that_cannot_be_filled_holds_up_no_other(self, factory: Factory) -> None:
        make_due(factory, 2)
        with factory.database.write() as session:
            first, _ = session.exec(select(Schedule).order_by(col(Schedule.next_at))).all()
            first.cron = "of another version"
        fill_slots(factory.database)
        assert write(factory.database, list_due) == [first.id]
        assert len(factory.find(select(Job))) == 1

    def test_one_that_cannot_be_filled_says_so_and_backs_off(self, factory: Factory) -> None:
        make_due(factory, 1)
        (schedule,) = factory.find(select(Schedule))
        with factory.database.write() as session:
            session.get_one(Schedule, schedule.id).cron = "of another version"
        for failures in (1, 2, 2):  # the third tick comes before it is tried again
            fill_slots(factory.database)
            after = factory.get(Schedule, schedule.id)
            assert (after.failures, str(after.problem).partition(":")[0]) == (failures, "CronSimError")
        assert after.try_at is not None
        assert 5 < after.try_at - factory.database.now() <= FIRST_WAIT_SECONDS
        assert write(factory.database, list_due) == []
        assert write(factory.database, fill_slot, schedule.id) is None
        with factory.database.write() as session:
            change_schedule(session, session.get_one(Schedule, schedule.id), {"cron": "* * * * *"})
            session.get_one(Schedule, schedule.id).next_at = factory.database.now() - 1
        fill_slots(factory.database)
        after = factory.get(Schedule, schedule.id)
        assert (after.failures, after.problem, after.try_at) == (0, None, None)
        assert len(factory.find(select(Job))) == 1

"""Run folders of jobs that have been over for long go; all others stay."""

from factories import Factory, write
from sqlmodel import select

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.tables import JobEvent
from modelyard.kit.settings import Settings
from modelyard.workers.engine.sweeper import Sweeper

DAY = 86_400.0


class TestLook:
    def test_only_those_of_jobs_that_ended_long_ago(self, factory: Factory, settings: Settings) -> None:
        old = factory.running()
        write(factory.database, finish, old.id, 1, Outcome.SUCCEEDED)
        factory.update(old, finished_at=factory.database.now() - 15 * DAY)
        recent = factory.running()
        write(factory.database, finish, recent.id, 1, Outcome.BAD_DATA)
        factory.update(recent, finished_at=factory.database.now() - 13 * DAY)
        running = factory.running()
        factory.update(running, finished_at=factory.database.now() - 15 * DAY)
        runs = settings.folder("runs")
        for name in (old.id, recent.id, running.id, "job_of_another_database"):
            (runs / name / "1").mkdir(parents=True)
            (runs / name / "1" / "events.jsonl").write_text("{}\n")
        (runs / "reaper.lock").touch()

        for _ in range(2):
            Sweeper(settings, factory.database).look()
            assert {path.name for path in runs.iterdir()} == {recent.id, running.id, "job_of_another_database", "reaper.lock"}
        events = factory.find(select(JobEvent).where(JobEvent.type == "run_folder_removed"))
        assert [each.job_id for each in events] == [old.id]

    def test_for_ever(self, factory: Factory, settings: Settings) -> None:
        job = factory.running()
        write(factory.database, finish, job.id, 1, Outcome.SUCCEEDED)
        factory.update(job, finished_at=1.0)
        (settings.folder("runs") / job.id).mkdir()
        Sweeper(settings.model_copy(update={"keep_run_folders_days": float("inf")}), factory.database).look()
        assert (settings.folder("runs") / job.id).exists()

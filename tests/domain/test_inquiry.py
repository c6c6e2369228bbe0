"""What an explanation rests on, found in the database."""

from factories import Factory, write

from modelyard.domain.jobs.inquiry import COUNTED, explain_job, inquire
from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import claim, finish
from modelyard.domain.jobs.prediction import Ahead
from modelyard.domain.jobs.situation import Situation
from modelyard.domain.jobs.tables import Job
from modelyard.domain.projects.tables import Project
from modelyard.domain.workers.tables import Host, Reservation, Worker
from modelyard.kit.database import Database, read_clock


def look(database: Database, job: Job) -> Situation:
    """The situation of a job as it is in the database now."""
    with database.read() as session:
        row = session.get(Job, job.id)
        assert row is not None
        return inquire(session, row)


def add_worker(database: Database, name: str = "w@host", silent: float = 0.0, **values: object) -> None:
    """A worker with two CPU slots that serves the queue of imports."""
    with database.write() as session:
        now = read_clock(session)
        usual = {"host": name.partition("@")[2], "pid": 1, "stages": ["prepare", "pretrain"], "queues": ["prepare"]}
        slots = {"cpu": {"total": 2, "free": 0}, "gpu": {"total": 0, "free": 0}}
        row = Worker(id=name, **{**usual, "slots": slots, "state": "online", **values}, started_at=now, heartbeat_at=now - silent)  # type: ignore[arg-type]
        session.add(row)


class TestWaiting:
    def test_the_line_and_who_holds_slots_of_any_stage(self, database: Database, factory: Factory) -> None:
        factory.registered()
        add_worker(database)
        add_worker(database, "gone@host", silent=300.0)
        add_worker(database, "off@host", state="offline")
        add_worker(database, "other@host", queues=["deploy"])
        holder = factory.job("pretrain")
        write(database, claim, holder.queue, "w@host", ["cpu-0"], 30.0)
        first, second, mine = factory.job(), factory.job(), factory.job()
        factory.job()  # behind it
        seen = look(database, mine)
        assert [job.id for job in seen.ahead] == [first.id, second.id]
        assert seen.line == [Ahead("import", 1)] * 2
        assert [job.id for job in seen.holders] == [holder.id]
        assert [(server.worker_id, server.slots) for server in seen.servers] == [("w@host", 2)]
        with database.read() as session:
            explained = explain_job(session, mine)
        assert (explained.position, explained.reason) == (3, "no_free_slots")
        assert [each.job_id for each in explained.blocking] == [first.id, second.id, holder.id]

    def test_past_runs_tell_when_it_starts(self, database: Database, factory: Factory) -> None:
        add_worker(database)
        done = factory.running()
        write(database, finish, done.id, 1, Outcome.SUCCEEDED)
        finished = factory.get(Job, done.id).finished_at
        factory.update(done, started_at=finished - 60.0)
        ahead, mine = [factory.job(), factory.job()], factory.job()
        with database.read() as session:
            start = explain_job(session, mine).start
        assert ahead
        assert start is not None
        assert start.expected_seconds == 60.0
        assert start.basis == "from one past run of import"

    def test_why_workers_take_none_and_what_they_keep(self, database: Database, factory: Factory) -> None:
        add_worker(database, "v@drained", drain_requested=True)
        add_worker(database, "w@excluded")
        job, wide = factory.job(), factory.job()
        with database.write() as session:
            now = read_clock(session)
            session.add(Host(name="excluded", excluded_until=now + 60, excluded_because="3 strikes"))
            session.add(Reservation(worker_id="w@excluded", job_id=wide.id, slots=2, accelerator="cpu", expires_at=now + 60))
            session.add(Reservation(worker_id="v@drained", job_id=wide.id, slots=2, accelerator="cpu", expires_at=now - 60))
        seen = look(database, job)
        reasons = {server.worker_id: server.takes_none_because for server in seen.servers}
        assert reasons["v@drained"] == "it is being drained"
        assert "3 strikes" in str(reasons["w@excluded"])
        assert [(kept.worker_id, kept.job.id) for kept in seen.kept] == [("w@excluded", wide.id)]

    def test_a_long_line_is_counted_only_so_far(self, database: Database, factory: Factory) -> None:
        job = factory.job()
        with database.write() as session:
            row = session.get(Job, job.id)
            assert row is not None
            for number in range(COUNTED + 1):
                session.add(Job(**{**row.model_dump(), "id": f"job_{number}", "order_key": row.order_key - 1.0}))
        seen = look(database, job)
        assert (len(seen.line), seen.line_is_longer) == (COUNTED, True)


class TestHeldForAQuota:
    def test_says_what_it_waits_for_now(self, database: Database, factory: Factory) -> None:
        limit(database, factory, max_gpus=0)
        mine = factory.job()
        assert "max_gpus allows" in (mine.message or "")
        limit(database, factory, max_gpus=None, max_gpu_hours_per_month=0.0)
        assert "max_gpu_hours_per_month" in (look(database, mine).held_for or "")
        limit(database, factory, max_gpu_hours_per_month=None)
        assert "has room again" in (look(database, mine).held_for or "")


def limit(database: Database, factory: Factory, **quotas: float | None) -> None:
    """Change the quotas of the project."""
    with database.write() as session:
        project = session.get(Project, factory.project_id)
        assert project is not None
        project.sqlmodel_update(quotas)
        session.add(project)

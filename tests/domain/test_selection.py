"""Who goes next at the claim: fair between projects, within quotas, away from hosts a job avoids."""

import time

import pytest
from factories import LEASE_SECONDS, Factory, write
from sqlmodel import select
from waiting_processes import run_at_once

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import claim, finish
from modelyard.domain.jobs.tables import Attempt, Job
from modelyard.domain.projects.tables import Project
from modelyard.domain.scheduling.standings import charge, half_life_seconds
from modelyard.domain.workers.repository import report_worker
from modelyard.domain.workers.tables import Worker

# Claims and finishes until nothing is left; prints the slots in use as it saw them at each claim.
QUOTA_CLAIMER = """
import sys
from modelyard.domain import tables
from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import claim, finish
from modelyard.domain.jobs.tables import Job
from modelyard.kit.database import Database
from sqlalchemy import func
from sqlmodel import select
database, mine, waiting, turn = Database(sys.argv[1]), [], 1, 0
print("ready", flush=True)
input()
while mine or waiting:
    turn += 1
    with database.write() as session:
        job = claim(session, sys.argv[2 + turn % 2], sys.argv[4], ["cpu-0"], 60.0)
    if job is not None:
        mine.append(job.id)
        with database.read() as session:
            print(session.exec(select(func.count()).where(Job.state == "running")).one(), flush=True)
    else:
        with database.read() as session:
            waiting = session.exec(select(func.count()).where(Job.state == "queued")).one()
    if mine and (job is None or len(mine) > 2):
        with database.write() as session:
            finish(session, mine.pop(0), 1, Outcome.SUCCEEDED)
"""


def set_project(factory: Factory, name: str, **values: object) -> None:
    """Change a project's row."""
    project_id = factory.project(name)
    with factory.database.write() as session:
        session.get_one(Project, project_id).sqlmodel_update(values)


def take(factory: Factory, queue: str = "prepare", worker: str = "train@host") -> Job | None:
    """Claim the best job of a queue."""
    job: Job | None = write(factory.database, claim, queue, worker, ["cpu-0"], LEASE_SECONDS)
    return job


def take_name(factory: Factory, worker: str = "train@host") -> str | None:
    """The name of the job that goes next."""
    job = take(factory, worker=worker)
    return job.name if job else None


def report(factory: Factory, name: str, host: str, queues: list[str], state: str = "online") -> None:
    """A worker that is there."""
    now = time.time()
    worker = Worker(id=name, host=host, pid=1, queues=queues, state=state, started_at=now, heartbeat_at=now)
    write(factory.database, report_worker, worker)


class TestFairShare:
    def test_who_uses_less_goes_first(self, factory: Factory) -> None:
        for project in ("a", "b"):
            for number in range(3):
                factory.job(project=project, name=f"{project}{number}")
        factory.job(project="c", name="late and low", priority=0)
        write(factory.database, charge, factory.project("a"), 1, 3600.0)
        assert [take_name(factory) for _ in range(4)] == ["b0", "b1", "b2", "late and low"]

    def test_what_runs_counts_before_it_has_ended(self, factory: Factory) -> None:
        factory.update(factory.running(project="a"), started_at=factory.database.now() - 3600)
        for project in ("a", "b"):
            factory.job(project=project, name=project)
        assert take_name(factory) == "b"

    def test_a_larger_share(self, factory: Factory) -> None:
        set_project(factory, "a", share=3.0)
        for project, hours in (("a", 2.0), ("b", 1.0)):
            write(factory.database, charge, factory.project(project), 1, hours * 3600)
        factory.job(project="b", name="b")
        factory.job(project="a", name="a")
        assert take_name(factory) == "a"

    def test_priority_decides_inside_a_project(self, factory: Factory) -> None:
        write(factory.database, charge, factory.project("b"), 1, 3600.0)
        factory.job(project="a", name="low", priority=0)
        factory.job(project="a", name="high", priority=90)
        factory.job(project="b", name="other", priority=100)
        assert [take_name(factory) for _ in range(3)] == ["high", "low", "other"]

    def test_a_finished_attempt_is_charged_once(self, factory: Factory) -> None:
        job = factory.running()
        (attempt,) = factory.find(select(Attempt))
        with factory.database.write() as session:
            session.get_one(Attempt, attempt.id).started_at -= 100
        write(factory.database, finish, job.id, 1, Outcome.SUCCEEDED)
        assert factory.get(Project, factory.project_id).recent_gpu_seconds == pytest.approx(100, abs=3)

    @pytest.mark.parametrize(("half_lives", "left"), [(0.0, 1.0), (1.0, 0.5), (3.0, 0.125), (1e6, 0.0), (-1.0, 1.0)])
    def test_charging_forgets(self, factory: Factory, half_lives: float, left: float) -> None:
        past = factory.database.now() - half_lives * half_life_seconds()
        set_project(factory, "default", recent_gpu_seconds=800.0, recent_at=past)
        write(factory.database, charge, factory.project_id, 2, 10.0)
        project = factory.get(Project, factory.project_id)
        assert project.recent_gpu_seconds == pytest.approx(800 * left + 20, rel=1e-3)
        assert project.recent_at == pytest.approx(factory.database.now(), abs=5)


class TestQuota:
    def test_no_more_than_allowed_however_many_wait(self, factory: Factory) -> None:
        first = factory.job(name="first")
        factory.job(name="second")
        factory.job(project="free", name="free")
        set_project(factory, "default", max_gpus=1)
        assert [take_name(factory) for _ in range(3)] == ["first", "free", None]
        write(factory.database, finish, first.id, 1, Outcome.SUCCEEDED)
        assert take_name(factory) == "second"

    def test_all_slots_of_a_wide_job_count(self, factory: Factory) -> None:
        factory.registered()
        for _ in range(2):
            wide = factory.job("pretrain", slots=2)
        set_project(factory, "default", max_gpus=3)
        assert [take(factory, wide.queue) is not None for _ in range(2)] == [True, False]

    def test_processes_never_exceed_it(self, factory: Factory, database_url: str) -> None:
        factory.registered()
        jobs = [factory.job(kind) for kind in ("import", "pretrain") for _ in range(8)]
        set_project(factory, "default", max_gpus=2)
        queues = sorted({job.queue for job in jobs})
        ended = run_at_once(QUOTA_CLAIMER, [[database_url, *queues, f"w{n}@h"] for n in range(3)])
        assert [each.code for each in ended] == [0, 0, 0], ended
        seen = [int(line) for each in ended for line in each.said.split()]
        assert len(seen) == len(jobs)
        assert max(seen) == 2


class TestHosts:
    @pytest.mark.parametrize(
        ("others", "first"),
        [
            ([("other", ["prepare"], "online")], "fine"),
            ([], "picky"),  # nobody else serves the queue: better here than never
            ([("other", ["finetune"], "online")], "picky"),
            ([("other", ["prepare"], "draining")], "picky"),
            ([("bad", ["prepare"], "online")], "picky"),
        ],
    )
    def test_avoided_while_there_is_another(self, factory: Factory, others: list[tuple[str, list[str], str]], first: str) -> None:
        picky = factory.job(name="picky", priority=100)
        factory.job(name="fine")
        factory.update(picky, avoid_hosts=["bad"])
        report(factory, "w@bad", "bad", ["prepare"])
        for number, (host, queues, state) in enumerate(others):
            report(factory, f"w{number}@{host}", host, queues, state)
        assert take_name(factory, "w@bad") == first

    def test_taken_elsewhere(self, factory: Factory) -> None:
        picky = factory.job(name="picky", priority=100)
        factory.update(picky, avoid_hosts=["bad"])
        for host in ("bad", "good", "bad.example"):
            report(factory, f"w@{host}", host, ["prepare"])
        assert take_name(factory, "w@bad") is None
        assert take_name(factory, "w@bad.example") == "picky"

    def test_the_attempt_says_where_and_on_what(self, factory: Factory) -> None:
        factory.job()
        write(factory.database, claim, "prepare", "train@box", ["gpu-1"], LEASE_SECONDS)
        (attempt,) = factory.find(select(Attempt))
        assert (attempt.host, attempt.accelerator) == ("box", "gpu")

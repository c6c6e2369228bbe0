"""What a project's quotas and start times do to its jobs: held with the figures, released in order, refused beyond."""

import json
from datetime import UTC, datetime

import pytest
from factories import LEASE_SECONDS, Factory, request_of, spec_of, write
from sqlmodel import select
from waiting_processes import run_at_once

from modelyard.domain.jobs.allowances import read_hours_this_month
from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import claim, finish
from modelyard.domain.jobs.stopping import cancel
from modelyard.domain.jobs.submission import Submission, submit_many
from modelyard.domain.jobs.tables import Attempt, Job
from modelyard.domain.pipelines.service import StepRequest, create_pipeline
from modelyard.domain.projects.tables import Project
from modelyard.domain.scheduling.quotas import QuotaExceeded, month_start
from modelyard.domain.usage.ledger import book
from modelyard.domain.usage.tables import UsageEntry
from modelyard.domain.workers.repository import report_worker
from modelyard.domain.workers.tables import Worker
from modelyard.kit.identifiers import new_id
from modelyard.scheduler.pipelines import advance_held_jobs
from modelyard.scheduler.quotas import apply_quotas, start_due_jobs

SUBMITTER = """
import json, sys
from modelyard.domain import tables
from modelyard.domain.jobs.submission import JobRequest, submit
from modelyard.domain.specs import parse_spec
from modelyard.domain.scheduling.quotas import QuotaExceeded
from modelyard.kit.database import Database
database = Database(sys.argv[1])
print("ready", flush=True)
input()
for _ in range(6):
    try:
        with database.write() as session:
            print(submit(session, sys.argv[2], JobRequest(parse_spec(json.loads(sys.argv[3])))).id, flush=True)
    except QuotaExceeded:
        pass
"""


def limit(factory: Factory, project: str = "default", **quotas: float | None) -> None:
    """Set quotas of a project."""
    project_id = factory.project(project)
    with factory.database.write() as session:
        session.get_one(Project, project_id).sqlmodel_update(quotas)


def serve(factory: Factory, *queues: str) -> None:
    """A worker that is there and serves queues."""
    now = factory.database.now()
    worker = Worker(id="w@h", host="h", pid=1, queues=list(queues), state="online", started_at=now, heartbeat_at=now)
    write(factory.database, report_worker, worker)


def states(factory: Factory, jobs: list[Job]) -> str:
    """First letters of the jobs' states: `q`, `h`, `r`."""
    return "".join(factory.get(Job, job.id).state[0] for job in jobs)


def take(factory: Factory) -> Job | None:
    """Claim the best job."""
    job: Job | None = write(factory.database, claim, "prepare", "train@host", ["cpu-0"], LEASE_SECONDS)
    return job


class TestSlots:
    def test_what_does_not_fit_is_held_with_the_figures(self, factory: Factory) -> None:
        limit(factory, max_gpus=2)
        factory.running()
        jobs = [factory.job(), factory.job()]
        assert states(factory, jobs) == "qh"
        held = factory.get(Job, jobs[1].id)
        assert held.reason == "quota"
        assert held.message == (
            "Needs 1 of the 2 slots project default may use at once (max_gpus): 1 are in use, 1 are for jobs queued before it"
        )
        assert factory.job(project="free").state == "queued"

    def test_the_best_goes_on_when_there_is_room(self, factory: Factory) -> None:
        limit(factory, max_gpus=1)
        serve(factory, "prepare")
        running = factory.running()
        jobs = [factory.job(priority=10), factory.job(priority=90), factory.job(priority=50)]
        apply_quotas(factory.database)
        assert states(factory, jobs) == "hhh"
        write(factory.database, finish, running.id, 1, Outcome.SUCCEEDED)
        apply_quotas(factory.database)
        assert states(factory, jobs) == "hqh"
        assert factory.get(Job, jobs[1].id).reason is None

    def test_a_better_one_takes_the_place_of_a_queued_one(self, factory: Factory) -> None:
        limit(factory, max_gpus=1)
        serve(factory, "prepare")
        jobs = [factory.job(priority=10), factory.job(priority=90)]
        assert states(factory, jobs) == "qh"
        apply_quotas(factory.database)
        assert states(factory, jobs) == "hq"
        assert "1 of the 1 slots" in factory.get(Job, jobs[0].id).message

    def test_a_quota_that_is_lowered_raised_and_taken_away(self, factory: Factory) -> None:
        serve(factory, "prepare")
        jobs = [factory.job() for _ in range(4)]
        for quota, expected in ((1, "qhhh"), (0, "hhhh"), (3, "qqqh"), (None, "qqqq")):
            limit(factory, max_gpus=quota)
            apply_quotas(factory.database)
            assert states(factory, jobs) == expected

    def test_a_job_that_returns_is_held_again(self, factory: Factory) -> None:
        limit(factory, max_gpus=1)
        serve(factory, "prepare")
        running, waiting = factory.running(priority=0), factory.job(priority=90)
        write(factory.database, finish, running.id, 1, Outcome.DRAINED)
        assert states(factory, [running, waiting]) == "qh"
        apply_quotas(factory.database)
        assert states(factory, [running, waiting]) == "hq"

    def test_a_queue_nobody_serves_holds_up_no_other(self, factory: Factory) -> None:
        factory.registered()
        limit(factory, max_gpus=1)
        serve(factory, "prepare")
        unserved, served = factory.job("pretrain"), factory.job()
        assert states(factory, [unserved, served]) == "qh"
        apply_quotas(factory.database)
        assert states(factory, [unserved, served]) == "qq"

    def test_one_that_backs_off_holds_up_no_other(self, factory: Factory) -> None:
        limit(factory, max_gpus=1)
        serve(factory, "prepare")
        first, second = factory.job(), factory.job()
        factory.update(first, not_before=factory.database.now() + 60)
        apply_quotas(factory.database)
        assert states(factory, [first, second]) == "qq"
        taken = take(factory)
        assert taken is not None
        assert taken.id == second.id
        factory.update(first, not_before=0.0)
        apply_quotas(factory.database)
        assert states(factory, [first, second]) == "hr"

    def test_a_held_job_can_be_cancelled(self, factory: Factory) -> None:
        limit(factory, max_gpus=0)
        job = factory.job()
        with factory.database.write() as session:
            cancel(session, session.get_one(Job, job.id))
        limit(factory, max_gpus=None)
        apply_quotas(factory.database)
        assert factory.get(Job, job.id).state == "cancelled"

    def test_steps_of_a_pipeline_are_held_too(self, factory: Factory) -> None:
        limit(factory, max_gpus=1)
        serve(factory, "prepare")
        steps = {"a": StepRequest(request_of()), "b": StepRequest(request_of(), ["a"]), "c": StepRequest(request_of(), ["a"])}
        write(factory.database, create_pipeline, factory.project_id, "chain", steps)
        jobs = factory.find(select(Job).order_by(Job.id))
        write(factory.database, finish, factory.claimed(jobs[0]).id, 1, Outcome.SUCCEEDED)
        for _ in range(2):
            advance_held_jobs(factory.database)
            apply_quotas(factory.database)
        assert states(factory, jobs) == "sqh"
        assert factory.get(Job, jobs[2].id).reason == "quota"


class TestMonth:
    def test_nothing_starts_once_the_hours_are_used(self, factory: Factory) -> None:
        limit(factory, max_gpu_hours_per_month=2)
        serve(factory, "prepare")
        done, waiting = factory.running(), factory.job()
        assert waiting.state == "queued"
        self.enter(factory, done, hours=2.0)
        late = factory.job()
        assert (late.state, late.reason) == ("held", "quota")
        assert "used 2.00 of its 2 slot-hours" in late.message
        apply_quotas(factory.database)
        assert states(factory, [waiting, late]) == "hh"
        limit(factory, max_gpu_hours_per_month=3)
        apply_quotas(factory.database)
        assert states(factory, [waiting, late]) == "qq"

    def test_the_claim_asks_too(self, factory: Factory) -> None:
        """Between two looks of the scheduler, and while there is none."""
        limit(factory, max_gpu_hours_per_month=2)
        done, waiting = factory.running(), factory.job()
        other = factory.job(project="other")
        self.enter(factory, done, hours=2.0)
        assert waiting.state == "queued"
        claimed = write(factory.database, claim, waiting.queue, "w@h", ["cpu-0"], 30.0)
        assert claimed.id == other.id
        assert write(factory.database, claim, waiting.queue, "w@h", ["cpu-0"], 30.0) is None
        limit(factory, max_gpu_hours_per_month=3)
        assert write(factory.database, claim, waiting.queue, "w@h", ["cpu-0"], 30.0).id == waiting.id

    def test_what_runs_counts_and_last_month_does_not(self, factory: Factory) -> None:
        now = factory.database.now()
        begin = month_start(now)
        job = factory.running()
        factory.update(job, started_at=max(now - 1800, begin))
        self.enter(factory, job, hours=5.0, finished_at=begin - 1)
        self.enter(factory, job, hours=2.0, finished_at=begin + 3600)  # half of it was last month
        expected = min(1800, now - begin) / 3600 + 1.0
        assert write(factory.database, read_hours_this_month, factory.project_id) == pytest.approx(expected, abs=0.01)

    @staticmethod
    def enter(factory: Factory, job: Job, hours: float, finished_at: float | None = None) -> None:
        """An entry of the ledger."""
        end = finished_at or factory.database.now()
        place = {"job_id": job.id, "project_id": job.project_id}
        with factory.database.write() as session:
            made = Attempt(
                id=new_id("att"), job_id=job.id, seq=int(hours * 10) + 50, worker_id="w", started_at=0.0, outcome="succeeded"
            )
            session.add(made)
            session.flush()
            span = {"started_at": end - hours * 3600, "finished_at": end, "useful": hours * 3600}
            entry = UsageEntry(attempt_id=made.id, **place, attempt=made.seq, accelerator="cpu", slots=1, **span)
            book(session, entry, job.kind)


class TestLength:
    def test_more_are_refused(self, factory: Factory) -> None:
        limit(factory, max_queued_jobs=2)
        factory.running()
        factory.job()
        factory.job(start_at=factory.database.now() + 600)
        with pytest.raises(QuotaExceeded, match="has 2 jobs waiting"):
            factory.job()
        assert take(factory) is not None
        factory.job()
        factory.job(project="other")

    def test_a_group_is_all_or_nothing_and_counts_only_if_made(self, factory: Factory) -> None:
        limit(factory, max_queued_jobs=3, max_gpus=2)
        groups = [[Submission(factory.project_id, request_of())] * number for number in (2, 2, 1)]
        made = write(factory.database, submit_many, groups)
        assert [len(each) if isinstance(each, list) else each.position for each in made] == [2, 1, 1]
        assert sorted(job.state for job in factory.find(select(Job))) == ["held", "queued", "queued"]

    def test_processes_never_exceed_it(self, factory: Factory, database_url: str) -> None:
        limit(factory, max_queued_jobs=5)
        ended = run_at_once(SUBMITTER, [[database_url, factory.project_id, json.dumps(spec_of("import"))]] * 2)
        assert [each.code for each in ended] == [0, 0], ended
        assert sum(len(each.said.split()) for each in ended) == len(factory.find(select(Job))) == 5


class TestStart:
    def test_held_until_then(self, factory: Factory) -> None:
        start = factory.database.now() + 3600
        job = factory.job(start_at=start)
        assert (job.state, job.reason) == ("held", "start_time")
        assert datetime.fromtimestamp(start, UTC).isoformat(timespec="seconds") in job.message
        for _ in range(2):
            advance_held_jobs(factory.database)
            start_due_jobs(factory.database)
            apply_quotas(factory.database)
        assert states(factory, [job]) == "h"
        factory.update(job, start_at=factory.database.now() - 0.01)
        start_due_jobs(factory.database)
        assert states(factory, [job]) == "q"

    def test_waiting_for_it_is_no_waiting_in_line(self, factory: Factory) -> None:
        later = factory.job(start_at=factory.database.now() + 3600)
        assert later.order_key == pytest.approx(factory.job().order_key + 3600, abs=5)

    def test_in_the_past_is_now(self, factory: Factory) -> None:
        assert factory.job(start_at=factory.database.now() - 5).state == "queued"

    def test_then_the_quota_counts(self, factory: Factory) -> None:
        job = factory.job(start_at=factory.database.now() + 3600)
        limit(factory, max_gpus=0)
        factory.update(job, start_at=0.0)
        start_due_jobs(factory.database)
        assert factory.get(Job, job.id).reason == "quota"

    def test_a_step_of_a_pipeline(self, factory: Factory) -> None:
        start = factory.database.now() + 3600
        steps = {"a": StepRequest(request_of()), "b": StepRequest(request_of(start_at=start), ["a"])}
        write(factory.database, create_pipeline, factory.project_id, "chain", steps)
        first, second = factory.find(select(Job).order_by(Job.id))
        write(factory.database, finish, factory.claimed(first).id, 1, Outcome.SUCCEEDED)
        advance_held_jobs(factory.database)
        assert factory.get(Job, second.id).reason == "start_time"
        factory.update(second, start_at=0.0)
        start_due_jobs(factory.database)
        assert factory.get(Job, second.id).state == "queued"

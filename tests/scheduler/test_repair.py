"""Dead leases end, live ones do not; silent workers are forgotten; a finished pipeline gets its state."""

from factories import Factory, write
from sqlmodel import select

from modelyard.domain.deployments.repository import add_interaction
from modelyard.domain.jobs.ownership import renew
from modelyard.domain.jobs.stopping import cancel
from modelyard.domain.jobs.tables import Attempt, Job
from modelyard.domain.projects.repository import remember
from modelyard.domain.projects.tables import RememberedRequest
from modelyard.domain.workers.repository import FORGOTTEN_SECONDS, SILENT_SECONDS
from modelyard.domain.workers.tables import Worker
from modelyard.kit.settings import Settings
from modelyard.scheduler.pipelines import advance_held_jobs, settle_pipelines
from modelyard.scheduler.repair import end_dead_lease, end_dead_leases, forget_old_requests, forget_silent_workers


class TestDeadLease:
    def test_the_job_is_queued_again(self, factory: Factory, settings: Settings) -> None:
        job = factory.running()
        factory.update(job, lease_expires_at=factory.database.now() - settings.lease_seconds)
        end_dead_leases(factory.database, settings)
        now, attempt = factory.get(Job, job.id), factory.find(select(Attempt))[0]
        assert (now.state, now.reason, now.lease_expires_at, now.worker_id) == ("queued", "node_lost", None, None)
        assert attempt.outcome == "node_lost"
        assert "train@host was not heard of for 30 s" in attempt.message
        assert factory.claimed(job).attempt == 2

    def test_not_before_the_runner_has_ended_its_tree(self, factory: Factory, settings: Settings) -> None:
        job = factory.running()
        factory.update(job, lease_expires_at=factory.database.now() - 1)  # within the grace
        end_dead_leases(factory.database, settings)
        assert factory.get(Job, job.id).state == "running"

    def test_renewed_at_the_last_moment(self, factory: Factory, settings: Settings) -> None:
        job = factory.running()
        factory.update(job, lease_expires_at=1.0)  # listed as dead …
        write(factory.database, renew, job.id, 1, settings.lease_seconds)  # … but renewed before it was ended
        write(factory.database, end_dead_lease, job.id, 7.5, settings.lease_seconds)
        assert factory.get(Job, job.id).state == "running"

    def test_one_being_cancelled_is_cancelled(self, factory: Factory, settings: Settings) -> None:
        job = factory.running()
        with factory.database.write() as session:
            row = session.get(Job, job.id)
            assert row is not None
            cancel(session, row)
        factory.update(job, lease_expires_at=1.0)
        end_dead_leases(factory.database, settings)
        assert factory.get(Job, job.id).state == "cancelled"

    def test_losing_its_worker_again_and_again_is_the_jobs_fault(self, factory: Factory, settings: Settings) -> None:
        job = factory.job()
        for _ in range(3):
            factory.update(factory.claimed(job), lease_expires_at=1.0)
            end_dead_leases(factory.database, settings)
            factory.update(job, not_before=0.0)
        assert factory.get(Job, job.id).state == "quarantined"


class TestForgetRequests:
    def test_after_a_week(self, factory: Factory) -> None:
        now = factory.database.now()
        for key, age_days in (("fresh", 0.0), ("six", 6.9), ("eight", 7.1), ("year", 365.0)):
            write(factory.database, remember, factory.project_id, key, "print", "job_1")
            with factory.database.write() as session:
                row = session.get(RememberedRequest, (factory.project_id, key))
                assert row is not None
                row.created_at = now - age_days * 86_400
        forget_old_requests(factory.database)
        assert {row.key for row in factory.find(select(RememberedRequest))} == {"fresh", "six"}


class TestForget:
    def test_silent_workers(self, factory: Factory) -> None:
        factory.worker("w", silent_seconds=SILENT_SECONDS + 1)
        factory.worker("gone", silent_seconds=FORGOTTEN_SECONDS + 1, state="offline")
        forget_silent_workers(factory.database)
        assert [(row.id, row.state) for row in factory.find(select(Worker))] == [("w", "offline")]


class TestAdvance:
    def test_one_bad_job_holds_up_no_other(self, factory: Factory) -> None:
        factory.registered()
        deployment = factory.deployment()
        broken, good = (factory.job("monitor", spec={"deployment": deployment, "min_interactions": 1}) for _ in range(2))
        factory.update(broken, spec={"kind": "of an older version"})
        write(
            factory.database,
            add_interaction,
            deployment_id=deployment,
            answer="",
            status=200,
            latency_seconds=0.1,
            created_at=0.0,
        )
        advance_held_jobs(factory.database)
        assert (factory.get(Job, broken.id).state, factory.get(Job, good.id).state) == ("held", "queued")

    def test_nothing_to_do(self, factory: Factory) -> None:
        advance_held_jobs(factory.database)
        settle_pipelines(factory.database)

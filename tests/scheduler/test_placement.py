"""Where jobs run: drained workers are emptied, machines that lose jobs are kept away from."""

from factories import Factory, write
from sqlmodel import select

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish, renew
from modelyard.domain.jobs.tables import Job, JobEvent
from modelyard.domain.workers.repository import get_worker_or_raise, request_drain
from modelyard.domain.workers.tables import Host, Strike
from modelyard.scheduler.placement import exclude_bad_hosts, hand_over


def drain(factory: Factory, worker_id: str) -> None:
    """Ask for a drain as the API does."""
    with factory.database.write() as session:
        request_drain(session, get_worker_or_raise(session, worker_id))


class TestHandOver:
    def test_its_jobs_save_and_go_back_to_their_queue(self, factory: Factory) -> None:
        factory.worker("train@host")
        job = factory.running()
        hand_over(factory.database)
        assert factory.get(Job, job.id).stop_requested is None, "nobody asked"
        drain(factory, "train@host")
        hand_over(factory.database)
        hand_over(factory.database)
        assert write(factory.database, renew, job.id, 1, 30.0).stop_requested == "drained"
        events = factory.find(select(JobEvent).where(JobEvent.type == "asked_to_leave"))
        assert [event.data for event in events] == [{"reason": "drained", "worker": "train@host"}], "asked once"
        write(factory.database, finish, job.id, 1, Outcome.DRAINED)
        after = factory.get(Job, job.id)
        assert (after.state, after.reason, after.stop_requested) == ("queued", "drained", None)

    def test_one_being_cancelled_stays_so(self, factory: Factory) -> None:
        factory.worker("train@host")
        job = factory.running()
        drain(factory, "train@host")
        factory.update(job, state="cancelling", stop_requested="cancelled")
        hand_over(factory.database)
        assert factory.get(Job, job.id).stop_requested == "cancelled"


class TestExclude:
    def lose(self, factory: Factory, outcome: Outcome, times: int) -> None:
        for _ in range(times):
            job = factory.running()
            write(factory.database, finish, job.id, job.attempt, outcome)
            factory.update(job, state="cancelled")

    def test_a_host_that_loses_jobs_while_another_serves(self, factory: Factory) -> None:
        factory.worker("train@host")
        self.lose(factory, Outcome.NODE_LOST, 2)
        self.lose(factory, Outcome.USER_CODE, 3)
        exclude_bad_hosts(factory.database)
        assert factory.find(select(Host)) == [], "two strikes are not enough, and the jobs' own failures are none"
        self.lose(factory, Outcome.HANG, 1)
        exclude_bad_hosts(factory.database)
        assert factory.find(select(Host)) == [], "the last machine that serves a queue is never excluded"
        factory.worker("train@other")
        exclude_bad_hosts(factory.database)
        host = factory.find(select(Host))[0]
        assert host.name == "host"
        assert host.excluded_until - host.excluded_at == 1800
        assert "hang, node_lost" in host.excluded_because
        assert len(factory.find(select(Strike))) == 3
        exclude_bad_hosts(factory.database)
        assert factory.find(select(Host))[0].excluded_until == host.excluded_until, "it is not prolonged for what was counted"

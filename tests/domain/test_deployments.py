"""Deployments: who answers under a name, from the first start to the last stop."""

import pytest
from factories import Factory, write

from modelyard.domain.deployments import repository
from modelyard.domain.deployments.tables import Deployment
from modelyard.domain.errors import NotFound
from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.tables import Job


def answering(factory: Factory, name: str = "chat") -> str | None:
    """The id of the deployment that answers under a name."""
    with factory.database.read() as session:
        found = repository.find_ready(session, factory.project_id, name)
        return found.id if found else None


def job_of(factory: Factory, deployment: str) -> Job:
    """The deploy job of a deployment."""
    job: Job = factory.get(Job, factory.get(Deployment, deployment).job_id)
    return job


class TestOpen:
    def test_starting_answers_nothing_yet(self, factory: Factory) -> None:
        factory.registered("model", "base")
        job = factory.running("deploy")
        row = write(factory.database, repository.open_deployment, job, "chat", "mdl_1", "srv_1")
        assert (row.state, row.attempt, row.url) == ("starting", 1, None)
        assert answering(factory) is None

    def test_a_restart_is_the_same_deployment_with_a_new_token(self, factory: Factory) -> None:
        before = factory.deployment()
        job = job_of(factory, before)
        write(factory.database, finish, job.id, 1, Outcome.DRAINED)
        again = factory.claimed(job)
        row = write(factory.database, repository.open_deployment, again, "chat", "mdl_1", "srv_2")
        assert (row.id, row.state, row.attempt, row.token) == (before, "starting", 2, "srv_2")
        assert (row.url, row.ready_at, row.stopped_at) == (None, None, None)


class TestReady:
    def test_the_newest_answers(self, factory: Factory) -> None:
        first = factory.deployment()
        assert answering(factory) == first
        second = factory.deployment()
        assert answering(factory) == second
        with factory.database.read() as session:
            row = session.get(Deployment, second)
            assert row is not None
            assert [old.id for old in repository.list_superseded(session, row)] == [first]

    def test_other_names_and_projects_are_left_alone(self, factory: Factory) -> None:
        factory.deployment("other")
        mine = factory.deployment("chat")
        with factory.database.read() as session:
            row = session.get(Deployment, mine)
            assert row is not None
            assert repository.list_superseded(session, row) == []
            assert repository.find_ready(session, factory.project("theirs"), "chat") is None


class TestStop:
    @pytest.mark.parametrize("outcome", Outcome)
    def test_whatever_ended_it_nothing_is_sent_there_any_more(self, factory: Factory, outcome: Outcome) -> None:
        deployment = factory.deployment()
        job = job_of(factory, deployment)
        if outcome is Outcome.PAUSED:
            factory.update(job, state="pausing", stop_requested="paused")
        write(factory.database, finish, job.id, 1, outcome)
        row = factory.get(Deployment, deployment)
        assert (row.state, row.url, row.stopped_at is not None) == ("stopped", None, True)
        assert answering(factory) is None

    def test_a_later_attempt_is_left_alone(self, factory: Factory) -> None:
        deployment = factory.deployment()
        write(factory.database, repository.mark_stopped, job_of(factory, deployment).id, 0)
        assert answering(factory) == deployment


class TestFind:
    def test_by_name_and_id(self, factory: Factory) -> None:
        first, second = factory.deployment(), factory.deployment()
        with factory.database.read() as session:
            for reference, wanted in [("chat", second), (first, first), (second, second)]:
                assert repository.get_deployment_or_raise(session, factory.project_id, reference).id == wanted
            with pytest.raises(NotFound, match="no deployment 'dep_0'"):
                repository.get_deployment_or_raise(session, factory.project_id, "dep_0")


class TestInteractions:
    def test_an_answer_with_nul_is_kept(self, factory: Factory) -> None:
        deployment = factory.deployment()
        values = {"status": 200, "latency_seconds": 0.5, "created_at": 1.0, "messages": [{"role": "user", "content": "a\0b"}]}
        write(factory.database, repository.add_interaction, deployment_id=deployment, answer="c\0d", **values)
        with factory.database.read() as session:
            row = repository.list_interactions(session, deployment)[0]
            assert row.messages == values["messages"]
            assert row.answer in {"c\0d", "c\ufffdd"}
            assert repository.count_interactions(session, deployment) == 1

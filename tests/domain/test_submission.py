"""May a job run? References, gates, traffic, shapes; a job that is refused leaves nothing behind."""

from typing import Any

import pytest
from factories import SPECS, Factory, spec_of, write
from pydantic import ValidationError
from sqlmodel import select

from modelyard.domain.deployments.repository import add_interaction
from modelyard.domain.deployments.tables import Deployment
from modelyard.domain.errors import Conflict, DomainError, InvalidRequest, UnknownReference
from modelyard.domain.jobs.admission import check_gate, check_traffic
from modelyard.domain.jobs.lifecycle import JobState, Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.queues import Shape
from modelyard.domain.jobs.submission import JobRequest, submit
from modelyard.domain.jobs.tables import Job, JobEvent
from modelyard.domain.pipelines.advancement import advance
from modelyard.domain.specs import KINDS, find_references, parse_spec
from modelyard.domain.specs.monitoring import MonitorSpec


class TestSubmit:
    def test_pins_what_a_name_means_now(self, factory: Factory) -> None:
        old = factory.registered(content="a")
        job = factory.job("pretrain")
        factory.registered(content="b")
        assert job.state == "queued"
        assert job.inputs == {"dataset": {"type": "dataset", "id": old.id, "name": "corpus", "version": 1, "sha256": old.sha256}}

    def test_begins_with_an_event(self, factory: Factory) -> None:
        job = factory.job()
        events = factory.find(select(JobEvent).where(JobEvent.job_id == job.id))
        assert [(event.type, event.attempt, event.data["state"]) for event in events] == [("state", 0, "queued")]

    @pytest.mark.parametrize(
        ("kind", "changes", "field", "says"),
        [
            ("pretrain", {"dataset": "nothing"}, "spec.dataset", "There are: corpus"),
            ("pretrain", {"dataset": "corpus@2"}, "spec.dataset", "does not exist"),
            ("pretrain", {"dataset": "corpus@"}, "spec.dataset", "does not exist"),
            ("pretrain", {"dataset": "corpus@²"}, "spec.dataset", "does not exist"),
            ("pretrain", {"dataset": "corpus@99999999999999999999"}, "spec.dataset", "does not exist"),
            ("pretrain", {"dataset": "ds_0"}, "spec.dataset", "does not exist"),
            ("pretrain", {"dataset": "a\0b"}, "spec.dataset", "does not exist"),
            ("pretrain", {"dataset": "${corpus}"}, "spec.dataset", "no part of a pipeline"),
            ("finetune", {"model": "corpus"}, "spec.model", "GET /v1/models lists"),
            ("monitor", {"deployment": "chat"}, "spec.deployment", "GET /v1/deployments lists"),
            ("prepare", {"sources": [{"dataset": "corpus"}, {"dataset": "other"}]}, "spec.sources.1.dataset", "does not exist"),
        ],
    )
    def test_unknown_references(self, factory: Factory, kind: str, changes: dict[str, Any], field: str, says: str) -> None:
        factory.registered()
        with pytest.raises(UnknownReference, match=says) as caught:
            factory.job(kind, spec=changes)
        assert caught.value.field == field
        assert factory.find(select(Job)) == []

    def test_things_of_another_project_are_unknown(self, factory: Factory) -> None:
        theirs = factory.registered(project="theirs")
        for reference in ("corpus", theirs.id):
            with pytest.raises(UnknownReference):
                factory.job("pretrain", spec={"dataset": reference})

    @pytest.mark.parametrize(
        ("kind", "nodes", "why"),
        [("import", 4, "is one process and runs on one worker"), ("pretrain", 65, "the 64 a job may have")],
    )
    def test_more_workers_than_it_can_use(self, factory: Factory, kind: str, nodes: int, why: str) -> None:
        request = JobRequest(parse_spec(spec_of(kind)), shape=Shape(1, "gpu", nodes=nodes))
        with pytest.raises(InvalidRequest, match=why) as caught:
            write(factory.database, submit, factory.project_id, request)
        assert (caught.value.field, caught.value.value) == ("resources.nodes", nodes)

    @pytest.mark.parametrize(
        ("kind", "slots", "queue"), [("import", 1, "prepare"), ("pretrain", 1, "pretrain"), ("pretrain", 2, "pretrain.2slot")]
    )
    def test_queue(self, factory: Factory, kind: str, slots: int, queue: str) -> None:
        factory.registered()
        assert factory.job(kind, slots=slots).queue == queue

    def test_several_slots_only_where_several_processes_make_sense(self, factory: Factory) -> None:
        with pytest.raises(InvalidRequest, match="takes one slot") as caught:
            factory.job("import", slots=2)
        assert (caught.value.field, caught.value.value) == ("resources.slots", 2)


class TestGate:
    @pytest.mark.parametrize(
        ("details", "state", "says"),
        [
            ({"candidate_id": "mdl_1", "gate_passed": True}, JobState.QUEUED, None),
            ({"candidate_id": "mdl_1", "gate_passed": False, "gate": "gain 0.1"}, JobState.FAILED, "did not pass: gain 0.1"),
            ({"candidate_id": "mdl_1"}, JobState.FAILED, "did not pass"),
            ({"candidate_id": "mdl_2", "gate_passed": True}, JobState.FAILED, "judged mdl_2, not the model to deploy"),
            ({"gate_passed": True}, JobState.FAILED, "judged None"),
            ({}, JobState.FAILED, "judged None"),
        ],
    )
    def test_table(self, details: dict[str, Any], state: JobState, says: str | None) -> None:
        verdict = check_gate("evl_1", details, "mdl_1")
        assert verdict.state is state
        assert says is None or says in (verdict.message or "")

    def test_lets_pass_only_the_model_it_judged(self, factory: Factory) -> None:
        model = factory.registered("model", "base")
        factory.registered("evaluation", "verdict", "a", candidate_id=model.id, gate_passed=True)
        assert factory.job("deploy", spec={"gate": "verdict"}).state == "queued"
        factory.registered("model", "other")
        with pytest.raises(Conflict, match="not the model to deploy"):
            factory.job("deploy", spec={"model": "other", "gate": "verdict"})
        assert len(factory.find(select(Job))) == 1


class TestTraffic:
    @pytest.mark.parametrize(
        ("answered", "wanted", "state"), [(0, 1, JobState.HELD), (19, 20, JobState.HELD), (20, 20, JobState.QUEUED)]
    )
    def test_table(self, answered: int, wanted: int, state: JobState) -> None:
        spec = MonitorSpec(name="watch", deployment="chat", reference="corpus", min_interactions=wanted)
        verdict = check_traffic(spec, answered)
        assert verdict.state is state
        assert state is JobState.QUEUED or f"{wanted} answered requests of deployment chat; {answered} so far" in str(
            verdict.message
        )

    @pytest.mark.parametrize(("answered", "way_out"), [(0, "deploy it again"), (3, "or submit it with min_interactions: 3")])
    def test_of_a_deployment_that_is_over(self, answered: int, way_out: str) -> None:
        spec = MonitorSpec(name="watch", deployment="chat", reference="corpus", min_interactions=4)
        verdict = check_traffic(spec, answered, "dep_1 (job_1) is cancelled")
        assert (verdict.state, verdict.reason) == (JobState.FAILED, "dependency_failed")
        assert "Deployment chat answers no more: dep_1 (job_1) is cancelled" in str(verdict.message)
        assert way_out in str(verdict.message)
        assert check_traffic(spec, 4, "dep_1 (job_1) is cancelled").state is JobState.QUEUED

    def test_counts_what_the_deployment_answered(self, factory: Factory) -> None:
        factory.registered()
        busy, idle = factory.deployment("busy"), factory.deployment("idle")
        for status in (200, 200, 400, 499, 502):
            self.send(factory, busy, status)
        wanted = {busy: 2, "busy": 2, idle: 1}
        states = [
            factory.job("monitor", spec={"deployment": name, "min_interactions": least}).state for name, least in wanted.items()
        ]
        assert states == ["queued", "queued", "held"]
        more = factory.job("monitor", spec={"deployment": busy, "min_interactions": 3})
        assert more.message == f"Waits for 3 answered requests of deployment {busy}; 2 so far"

    def test_fails_when_the_deployment_ends(self, factory: Factory) -> None:
        factory.registered()
        deployment = factory.deployment()
        self.send(factory, deployment, 200)
        monitor = factory.job("monitor", spec={"min_interactions": 2})
        write(factory.database, advance, monitor.id)
        assert factory.get(Job, monitor.id).state == "held"
        server = factory.get(Deployment, deployment).job_id
        write(factory.database, finish, server, 1, Outcome.BAD_DATA)
        write(factory.database, advance, monitor.id)
        failed = factory.get(Job, monitor.id)
        assert (failed.state, failed.reason) == ("failed", "dependency_failed")
        assert f"{deployment} ({server}) is failed, after 1 of 2 requests" in failed.message

    @staticmethod
    def send(factory: Factory, deployment_id: str, status: int) -> None:
        values = {"answer": "", "status": status, "latency_seconds": 0.1, "created_at": 0.0}
        write(factory.database, add_interaction, deployment_id=deployment_id, **values)


class TestSpecs:
    @pytest.mark.parametrize("kind", KINDS)
    def test_survive_the_database(self, factory: Factory, kind: str) -> None:
        spec = parse_spec(spec_of(kind))
        assert parse_spec(spec.model_dump(mode="json", by_alias=True)) == spec

    def test_every_kind_has_a_default_here(self) -> None:
        assert set(SPECS) == set(KINDS)

    @pytest.mark.parametrize(
        ("kind", "found"),
        [
            ("import", []),
            ("pretrain", [("dataset", "dataset")]),
            ("finetune", [("model", "model"), ("dataset", "dataset")]),
            ("evaluate", [("base", "model"), ("candidate", "model"), ("dataset", "dataset")]),
            ("monitor", [("deployment", "deployment"), ("reference", "dataset")]),
        ],
    )
    def test_references_are_found(self, kind: str, found: list[tuple[str, str]]) -> None:
        assert [(each.path, each.type) for each in find_references(parse_spec(spec_of(kind)))] == found

    @pytest.mark.parametrize(
        ("kind", "changes", "says"),
        [
            ("pretrain", {"stepz": 1}, "stepz"),
            ("pretrain", {"optimizer": {"learning_rate": float("inf")}}, "learning_rate"),
            ("pretrain", {"name": "Bad Name"}, "name"),
            ("prepare", {"sources": [{}]}, "exactly one of"),
            ("import", {"source": {"hub": "a/b"}}, "`hub` needs `revision`"),
            ("import", {"source": {"hub": "a/b", "revision": "main"}}, "revision 'main' is no full commit id"),
            ("prompt", {"templates": [{"name": "a"}, {"name": "b", "user": "no place"}]}, "must contain {prompt}"),
        ],
    )
    def test_mistakes_are_named(self, kind: str, changes: dict[str, Any], says: str) -> None:
        with pytest.raises(ValidationError, match=says):
            parse_spec(spec_of(kind, **changes))


class TestErrors:
    def test_every_error_is_a_sentence_with_status_and_code(self) -> None:
        def below(kind: type[DomainError]) -> list[type[DomainError]]:
            return [kind, *(deeper for each in kind.__subclasses__() for deeper in below(each))]

        for kind in below(DomainError):
            assert kind.__doc__
            assert 400 <= kind.status < 600 or "status" in kind.__init__.__annotations__
            assert kind.code

"""Pipelines: all jobs or none, in order, each with what the one before it made."""

import pytest
from factories import Factory, write
from pipeline_steps import create, look, step, succeed
from sqlmodel import select

from modelyard.domain.deployments.repository import mark_ready, open_deployment
from modelyard.domain.errors import DomainError, InvalidRequest, UnknownReference
from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish, own
from modelyard.domain.jobs.stopping import cancel
from modelyard.domain.jobs.tables import Job
from modelyard.domain.pipelines.references import StepReference, parse_step_reference
from modelyard.domain.pipelines.service import StepRequest
from modelyard.domain.pipelines.tables import Pipeline
from modelyard.kit.database import database_now

CHAIN = {
    "deploy": step("deploy", model="${model.adapter}"),
    "model": step("finetune", model="${base}", dataset="${corpus}"),
    "corpus": step("prepare"),
    "base": step("import"),
}
"""Written down in the wrong order on purpose."""


class TestCreate:
    def test_starts_with_what_waits_for_nothing(self, factory: Factory) -> None:
        jobs = create(factory, CHAIN)
        assert {name: job.state for name, job in jobs.items()} == {
            "corpus": "queued",
            "base": "queued",
            "model": "held",
            "deploy": "held",
        }
        assert jobs["model"].message == "Waits for base, corpus"
        assert [*jobs][2:] == ["model", "deploy"]

    @pytest.mark.parametrize(
        ("steps", "error", "field", "says"),
        [
            ({"a": step("import", "b"), "b": step("import", "a")}, InvalidRequest, "jobs", "circle: a, b"),
            ({"a": step("import", "a")}, InvalidRequest, "jobs", "circle: a"),
            ({"a": step("import", "z")}, UnknownReference, "jobs.a", "step 'z'; this pipeline has a"),
            ({"a": step("pretrain", dataset="${z}")}, UnknownReference, "jobs.a", "step 'z'"),
            (
                {"a": step("import"), "b": step("pretrain", dataset="${a}")},
                UnknownReference,
                "jobs.b.spec.dataset",
                "wants a dataset, but .*is a model",
            ),
            (
                {"a": step("import"), "b": step("deploy", model="${a.adapter}")},
                UnknownReference,
                "jobs.b.spec.model",
                "that step makes model",
            ),
            (
                {
                    "a": step("import"),
                    "b": step("finetune", model="${a}", method="full"),
                    "c": step("deploy", model="${b.adapter}"),
                },
                UnknownReference,
                "jobs.c.spec.model",
                "that step makes model$",
            ),
            ({"a": step("import"), "b": step("pretrain")}, UnknownReference, "jobs.b.spec.dataset", "does not exist"),
            (
                {"a": step("import"), "b": step("finetune", model="${a}")},
                UnknownReference,
                "jobs.b.spec.dataset",
                "does not exist",
            ),
        ],
    )
    def test_one_wrong_step_and_nothing_is_made(
        self, factory: Factory, steps: dict[str, StepRequest], error: type[DomainError], field: str, says: str
    ) -> None:
        with pytest.raises(error, match=says) as caught:
            create(factory, steps)
        assert caught.value.field == field
        assert factory.find(select(Job)) == []
        assert factory.find(select(Pipeline)) == []

    def test_a_name_may_be_made_by_a_step_it_waits_for(self, factory: Factory) -> None:
        jobs = create(factory, {"a": step("prepare", name="fresh"), "b": step("pretrain", "a", dataset="fresh")})
        succeed(factory, jobs["a"], dataset=("dataset", "fresh"))
        assert look(factory, jobs["b"].pipeline_id) == {"a": "succeeded", "b": "queued"}


class TestAdvance:
    def test_passes_outputs_on(self, factory: Factory) -> None:
        jobs = create(factory, CHAIN)
        succeed(factory, jobs["corpus"], dataset=("dataset", "corpus"))
        assert look(factory, jobs["corpus"].pipeline_id)["model"] == "held"
        assert factory.get(Job, jobs["model"].id).message.startswith(f"Waits for base ({jobs['base'].id}, queued)")
        succeed(factory, jobs["base"], model=("model", "base"))
        assert look(factory, jobs["corpus"].pipeline_id)["model"] == "queued"
        succeed(factory, jobs["model"], model=("model", "tuned"), adapter=("model", "tuned-adapter"))
        look(factory, jobs["corpus"].pipeline_id)
        deploy = factory.get(Job, jobs["deploy"].id)
        assert (deploy.state, deploy.inputs["model"]["name"]) == ("queued", "tuned-adapter")

    def test_a_service_counts_once_it_answers(self, factory: Factory) -> None:
        factory.registered("model", "base")
        jobs = create(factory, {"a": step("deploy"), "b": step("import", "a")})
        job = factory.claimed(jobs["a"])
        assert look(factory, job.pipeline_id)["b"] == "held"
        write(factory.database, open_deployment, job, "chat", "mdl_1", "srv")
        write(factory.database, mark_ready, job.id, 1, "http://127.0.0.1:9")
        write(factory.database, own, job.id, 1, ready_at=database_now())
        assert look(factory, job.pipeline_id)["b"] == "queued"
        succeed(factory, jobs["b"])
        look(factory, job.pipeline_id)
        assert factory.get(Pipeline, job.pipeline_id).state == "succeeded"

    def test_failure_reaches_every_step_behind_it(self, factory: Factory) -> None:
        jobs = create(factory, CHAIN)
        write(factory.database, finish, factory.claimed(jobs["corpus"]).id, 1, Outcome.BAD_DATA, "line 3 is broken")
        succeed(factory, jobs["base"], model=("model", "base"))
        look(factory, jobs["corpus"].pipeline_id)
        states = look(factory, jobs["corpus"].pipeline_id)
        assert states == {"corpus": "failed", "base": "succeeded", "model": "failed", "deploy": "failed"}
        model = factory.get(Job, jobs["model"].id)
        assert (model.reason, model.finished_at is not None) == ("dependency_failed", True)
        assert "line 3 is broken" in model.message
        assert factory.get(Pipeline, model.pipeline_id).state == "failed"

    def test_an_output_that_was_not_made(self, factory: Factory) -> None:
        jobs = create(factory, {"a": step("import"), "b": step("deploy", model="${a}")})
        succeed(factory, jobs["a"])
        assert look(factory, jobs["a"].pipeline_id)["b"] == "failed"
        assert "made no output 'model'" in factory.get(Job, jobs["b"].id).message

    def test_a_gate_that_did_not_pass(self, factory: Factory) -> None:
        factory.registered(content="a")
        factory.registered("model", "base")
        jobs = create(factory, {"judge": step("evaluate"), "deploy": step("deploy", gate="${judge}")})
        succeed(factory, jobs["judge"], evaluation=("evaluation", "verdict"))
        assert look(factory, jobs["judge"].pipeline_id)["deploy"] == "failed"
        assert "judged None" in factory.get(Job, jobs["deploy"].id).message

    def test_a_cancelled_job_stays_cancelled(self, factory: Factory) -> None:
        jobs = create(factory, {"a": step("import"), "b": step("import", "a")})
        succeed(factory, jobs["a"])
        with factory.database.write() as session:
            waiting = session.get(Job, jobs["b"].id)
            assert waiting is not None
            cancel(session, waiting)
        assert look(factory, jobs["b"].pipeline_id)["b"] == "cancelled"
        assert factory.get(Pipeline, jobs["b"].pipeline_id).state == "cancelled"

    def test_twice_is_once(self, factory: Factory) -> None:
        jobs = create(factory, CHAIN)
        assert look(factory, jobs["base"].pipeline_id) == look(factory, jobs["base"].pipeline_id)


class TestReference:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("${corpus}", StepReference("corpus")),
            ("${my-step_2.adapter}", StepReference("my-step_2", "adapter")),
            ("corpus", None),
            ("${Corpus}", None),
            ("${a}${b}", None),
            ("${a.}", None),
            ("x${a}", None),
        ],
    )
    def test_parse(self, text: str, found: StepReference | None) -> None:
        assert parse_step_reference(text) == found

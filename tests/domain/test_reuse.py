"""Steps whose spec and inputs did not change take over what an earlier job made."""

from typing import Any

import pytest
from factories import Factory, spec_of, write
from pipeline_steps import jobs_of, look, step, succeed
from sqlmodel import select

from modelyard.domain.jobs.fingerprints import fingerprint_of
from modelyard.domain.jobs.repository import list_events
from modelyard.domain.jobs.tables import Attempt, Job
from modelyard.domain.pipelines.service import StepRequest, create_pipeline
from modelyard.domain.pipelines.tables import Pipeline
from modelyard.domain.registry.tables import Model
from modelyard.domain.specs import parse_spec

MADE = {"corpus": ("dataset", "corpus"), "model": ("model", "bard"), "verdict": ("evaluation", "verdict")}
"""Step -> type and name of what it makes."""
GIVEN = {"type": "dataset", "id": "ds_1", "name": "corpus", "version": 1, "sha256": "a" * 64}


def chain(**training: Any) -> dict[str, StepRequest]:
    """Three steps in a row, with changes to the spec of the second."""
    return {
        "corpus": step("prepare"),
        "model": step("pretrain", dataset="${corpus}", **training),
        "verdict": step("evaluate", base="${model}", candidate="${model}", dataset="${corpus}"),
    }


def start(factory: Factory, steps: dict[str, StepRequest], reuse: bool = True, project: str = "default") -> dict[str, Job]:
    """Make a pipeline; return its jobs by step."""
    pipeline = write(factory.database, create_pipeline, factory.project(project), "test", steps, reuse)
    return jobs_of(factory, pipeline.id)


def run(
    factory: Factory, steps: dict[str, StepRequest], reuse: bool = True, content: str = "a"
) -> tuple[dict[str, Job], list[str]]:
    """Run a pipeline to its end; return its jobs, and the steps a worker ran, which made things of that content."""
    id_ = str(start(factory, steps, reuse)["corpus"].pipeline_id)
    ran = []
    for name, (type_, title) in MADE.items():
        look(factory, id_)
        job = jobs_of(factory, id_)[name]
        if job.state == "queued":
            succeed(factory, job, content, **{type_: (type_, title)})
            ran.append(name)
    assert set(look(factory, id_).values()) == {"succeeded"}
    return jobs_of(factory, id_), ran


class TestFingerprint:
    @pytest.mark.parametrize(
        ("spec", "given", "ranks", "recipes", "is_same"),
        [
            ({}, {}, 1, "1", True),
            ({"dataset": "corpus@1"}, {"id": "ds_2", "version": 7}, 1, "1", True),
            ({}, {"sha256": "b" * 64}, 1, "1", False),
            ({}, {"name": "other"}, 1, "1", False),
            ({"steps": 301}, {}, 1, "1", False),
            ({"name": "other"}, {}, 1, "1", False),
            ({}, {}, 2, "1", False),
            ({}, {}, 1, "2", False),
        ],
    )
    def test_is_the_same_for_what_makes_the_same(
        self, spec: dict[str, Any], given: dict[str, Any], ranks: int, recipes: str, is_same: bool
    ) -> None:
        first = fingerprint_of(parse_spec(spec_of("pretrain")), {"dataset": GIVEN}, 1, "1")
        second = fingerprint_of(parse_spec(spec_of("pretrain", **spec)), {"dataset": {**GIVEN, **given}}, ranks, recipes)
        assert first is not None
        assert (first == second) == is_same

    def test_finds_references_deep_inside(self) -> None:
        spec = parse_spec(spec_of("prepare", sources=[{"dataset": "raw"}]))
        one, other = (fingerprint_of(spec, {"sources.0.dataset": {**GIVEN, "sha256": text}}, 1) for text in "ab")
        assert one
        assert one != other

    @pytest.mark.parametrize(
        ("kind", "spec", "inputs"),
        [
            ("pretrain", {}, {}),
            ("pretrain", {}, {"dataset": {"type": "dataset", "id": "ds_1", "name": "corpus"}}),
            ("deploy", {}, {"model": GIVEN}),
            ("monitor", {"deployment": "chat"}, {"deployment": GIVEN, "reference": GIVEN}),
            ("import", {"source": {"path": "folder"}}, {}),
        ],
    )
    def test_there_is_none_where_the_outputs_are_not_determined(
        self, kind: str, spec: dict[str, Any], inputs: dict[str, Any]
    ) -> None:
        assert fingerprint_of(parse_spec(spec_of(kind, **spec)), inputs, 1) is None

    def test_every_job_has_one_once_its_inputs_are_pinned(self, factory: Factory) -> None:
        factory.registered()
        alone = factory.job("pretrain")
        assert alone.fingerprint is not None
        factory.update(alone, state="cancelled")
        jobs, _ = run(factory, chain(), reuse=False)
        assert len({job.fingerprint for job in jobs.values()} - {None}) == 3


class TestReuse:
    def test_the_second_run_runs_nothing(self, factory: Factory) -> None:
        first, ran = run(factory, chain())
        assert ran == [*MADE]
        second = start(factory, chain())
        assert {name: (job.state, job.attempt, job.reused_from) for name, job in second.items()} == {
            name: ("succeeded", 0, first[name].id) for name in MADE
        }
        assert [job.outputs for job in second.values()] == [job.outputs for job in first.values()]
        assert [job.figures for job in second.values()] == [{"loss": 2.5}] * 3
        assert factory.get(Pipeline, second["corpus"].pipeline_id).state == "succeeded"
        assert len(factory.find(select(Attempt))) == 3
        with factory.database.read() as session:
            events = [event.data for event in list_events(session, second["model"].id) if event.type == "reused"]
        assert events == [{"job_id": first["model"].id}]

    def test_names_the_job_that_ran(self, factory: Factory) -> None:
        first, _ = run(factory, chain())
        start(factory, chain())
        assert start(factory, chain())["model"].reused_from == first["model"].id

    @pytest.mark.parametrize(("content", "expected"), [("b", ["model", "verdict"]), ("a", ["model"])])
    def test_what_changed_runs_and_so_does_what_depends_on_it(self, factory: Factory, content: str, expected: list[str]) -> None:
        run(factory, chain())
        assert run(factory, chain(steps=7), content=content)[1] == expected

    def test_only_if_asked_for(self, factory: Factory) -> None:
        run(factory, chain())
        assert run(factory, chain(), reuse=False)[1] == [*MADE]

    def test_jobs_submitted_alone_are_found_too(self, factory: Factory) -> None:
        alone = factory.job("prepare")
        succeed(factory, alone, dataset=("dataset", "corpus"))
        assert start(factory, chain())["corpus"].reused_from == alone.id

    def test_what_is_gone_is_made_again(self, factory: Factory) -> None:
        first, _ = run(factory, chain())
        with factory.database.write() as session:
            session.delete(session.get(Model, first["model"].outputs["model"]["id"]))
        second = start(factory, chain())
        assert (second["corpus"].state, second["model"].state, second["verdict"].state) == ("succeeded", "queued", "held")

    def test_not_from_another_project_nor_from_what_failed(self, factory: Factory) -> None:
        run(factory, chain())
        assert start(factory, chain(), project="theirs")["corpus"].state == "queued"
        for job in factory.find(select(Job).where(Job.state == "succeeded")):
            factory.update(job, state="failed")
        assert start(factory, chain())["corpus"].state == "queued"

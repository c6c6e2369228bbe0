"""Plans over HTTP: what a job will need, and nothing is made."""

import json
from pathlib import Path
from typing import Any

import pytest
from factories import SPECS, Factory, spec_of, write
from running_api import Api
from sqlmodel import select

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.recording import Batch, record
from modelyard.domain.jobs.tables import Job
from modelyard.domain.planning.translation import TRAINING_KINDS
from modelyard.domain.registry.repository import Made, register

GIB = 2**30
LLAMA = {
    "model_type": "llama", "vocab_size": 4096, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": True, "max_position_embeddings": 512,
}  # fmt: skip


def add_model(api: Api, folder: Path, config: dict[str, Any]) -> None:
    """Register a model whose artifact holds a configuration."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    manifest = api.app.state.platform.store.put(folder, "model/base")
    made = Made("model", "base", "model/base", manifest["sha256"], manifest["bytes"])
    write(api.factory.database, register, api.factory.project_id, made)


def plan(api: Api, kind: str, resources: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    response = api.client.post("/v1/jobs/plan", json={"spec": spec_of(kind, **changes), "resources": resources or {}})
    assert response.status_code == 200, response.text
    return dict(response.json())


def ran(factory: Factory, kind: str, step_seconds: float, total_seconds: float, **spec: Any) -> None:
    """A job of a kind that succeeded, with a curve of four points."""
    job = factory.running(kind, spec=spec)
    points = [
        {"type": "metric", "at": job.started_at + each * step_seconds, "step": each, "values": {"loss": 1.0}}
        for each in (1, 2, 3, 4)
    ]
    write(factory.database, record, job.id, job.attempt, Batch(events=points), 1.0)
    write(factory.database, finish, job.id, job.attempt, Outcome.SUCCEEDED)
    factory.update(job, finished_at=job.started_at + total_seconds)


class TestPlan:
    def test_a_pre_training_and_nothing_is_made(self, api_on_both: Api) -> None:
        api = api_on_both
        api.factory.registered("dataset", "corpus")
        api.factory.worker(cpu=2, host_memory_bytes=16 * GIB)
        found = plan(api, "pretrain", steps=10)
        assert api.factory.find(select(Job)) == []
        assert found["parameters"] == found["trainable_parameters"] == 4096 * 256 + 4 * (4 * 256**2 + 3 * 256 * 688 + 512) + 256
        memory = found["memory"]
        assert memory["rank_bytes"] == sum(piece["bytes"] for piece in memory["pieces"])
        assert memory["fits"] is True
        assert memory["machines"][0]["available_bytes"] == 16 * GIB
        assert found["tokens"]["total"] == 10 * found["tokens"]["per_step"] == 10 * 8 * 128
        assert "no past run" in found["time"]["basis"]
        assert found["start"]["expected"] is not None
        assert (found["suggestion"], found["warnings"], found["held"]) == (None, [], None)

    @pytest.mark.parametrize("kind", sorted(set(SPECS) - TRAINING_KINDS))
    def test_kinds_without_a_formula(self, api: Api, kind: str) -> None:
        api.factory.registered("dataset", "corpus")
        api.factory.deployment()  # and the model `base`
        found = plan(api, kind)
        assert found["memory"] is None
        assert "no formula" in found["not_reckoned"]
        assert found["time"]["basis"]
        assert found["start"]["basis"]

    def test_a_past_run_of_the_same_shape_says_how_long(self, api_on_both: Api) -> None:
        factory = api_on_both.factory
        factory.registered("dataset", "corpus")
        ran(factory, "pretrain", 2.0, 30.0, steps=4)
        found = plan(api_on_both, "pretrain", steps=100)
        time, cost = found["time"], found["cost"]
        assert time["step_seconds"] == pytest.approx(2.0)
        assert time["expected_seconds"] == pytest.approx(30.0 - 8.0 + 200.0)
        assert cost["expected_slot_hours"] == pytest.approx(time["expected_seconds"] / 3600)

    def test_a_past_run_of_another_version_does_not_stand_in_the_way(self, api_on_both: Api) -> None:
        factory = api_on_both.factory
        factory.registered("dataset", "corpus")
        ran(factory, "pretrain", 2.0, 30.0, steps=4)
        past = factory.find(select(Job))[0]
        factory.update(past, spec={**past.spec, "unknown": 1})
        assert plan(api_on_both, "pretrain", steps=100)["time"]["basis"]
        answer = api_on_both.client.get(f"/v1/jobs/{past.id}/plan")
        assert answer.status_code == 409
        assert "submitted to another version" in answer.json()["detail"]

    def test_one_that_does_not_fit_is_told_what_would(self, api: Api, tmp_path: Path) -> None:
        api.factory.registered("dataset", "corpus")
        add_model(api, tmp_path / "model", LLAMA)
        big = {"micro_batch_size": 64, "sequence_length": 512}
        room = plan(api, "finetune", **{**big, "micro_batch_size": 8})["memory"]["rank_bytes"]
        api.factory.worker(cpu=2, host_memory_bytes=room)
        found = plan(api, "finetune", **big)
        assert found["memory"]["fits"] is False
        assert found["suggestion"]["changes"] == {"spec.micro_batch_size": 8, "spec.gradient_accumulation_steps": 8}
        assert found["suggestion"]["rank_bytes"] == room

    def test_machines_that_say_nothing_are_warned_of(self, api: Api) -> None:
        api.factory.registered("dataset", "corpus")
        api.factory.worker(cpu=2)
        found = plan(api, "pretrain")
        assert found["memory"]["fits"] is None
        assert "has said how much memory" in found["warnings"][0]

    def test_an_architecture_without_a_formula(self, api: Api, tmp_path: Path) -> None:
        api.factory.registered("dataset", "corpus")
        add_model(api, tmp_path / "model", {**LLAMA, "model_type": "mamba"})
        assert "architecture has no formula" in plan(api, "finetune")["not_reckoned"]

    def test_quotas(self, api: Api) -> None:
        api.factory.registered("dataset", "corpus")
        api.client.patch("/v1/projects/default", json={"max_gpus": 1})
        assert "may use 1 at once" in plan(api, "pretrain", {"slots": 2})["cost"]["exceeds"]

    @pytest.mark.parametrize(
        ("body", "field", "code"),
        [
            ({"spec": spec_of("pretrain", steps=0)}, "spec.steps", "invalid_request"),
            ({"spec": spec_of("pretrain")}, "spec.dataset", "unknown_reference"),
            ({"spec": spec_of("import"), "resources": {"slots": 2}}, "resources.slots", "invalid_request"),
        ],
    )
    def test_what_submitting_would_refuse(self, api: Api, check_problem: Any, body: Any, field: str, code: str) -> None:
        check_problem(api.client.post("/v1/jobs/plan", json=body), 422, code, field)


class TestProbe:
    def test_a_few_steps_are_a_job_of_their_own(self, api_on_both: Api) -> None:
        api = api_on_both
        api.factory.registered("dataset", "corpus")
        body = {
            "spec": spec_of("pretrain", steps=5000, save_every=1000),
            "resources": {"slots": 2},
            "probe": True,
            "max_attempts": 3,
        }
        response = api.client.post("/v1/jobs/plan", json=body)
        assert response.status_code == 202
        probe = response.json()["probe"]
        assert response.headers["location"] == f"/v1/jobs/{probe['id']}/plan"
        assert (probe["name"], probe["state"], probe["slots"], probe["max_attempts"]) == ("bard-probe", "queued", 2, 1)
        assert (probe["spec"]["steps"], probe["spec"]["save_every"]) == (3, 3)
        (job,) = api.factory.find(select(Job))
        assert job.is_probe

    def test_what_was_measured_stands_beside_what_was_predicted(self, api_on_both: Api) -> None:
        api = api_on_both
        api.factory.registered("dataset", "corpus")
        ran(api.factory, "pretrain", 2.0, 30.0, steps=4)
        (job,) = api.factory.find(select(Job))
        api.factory.update(job, figures={"peak_memory_bytes": 700_000_000})
        found = api.client.get(f"/v1/jobs/{job.id}/plan").json()
        assert found["measured"] == {
            "peak_memory_bytes": 700_000_000,
            "step_seconds": pytest.approx(2.0),
            "seconds": pytest.approx(30.0),
        }
        assert found["memory"]["rank_bytes"] > 0
        assert "no past run" in found["time"]["basis"]  # its own time is no prediction of it
        assert found["start"]["basis"] == "it is succeeded"

    def test_probes_are_no_past_runs(self, api: Api) -> None:
        api.factory.registered("dataset", "corpus")
        ran(api.factory, "pretrain", 2.0, 30.0, steps=4)
        (job,) = api.factory.find(select(Job))
        api.factory.update(job, is_probe=True)
        assert "no past run" in plan(api, "pretrain")["time"]["basis"]

    def test_who_may_and_what_can_be_probed(self, api: Api, check_problem: Any) -> None:
        api.factory.registered("dataset", "corpus")
        body = {"spec": spec_of("pretrain"), "probe": True}
        check_problem(api.with_key(api.key("read")).post("/v1/jobs/plan", json=body), 403, "missing_scope")
        check_problem(api.client.post("/v1/jobs/plan", json={**body, "spec": spec_of("import")}), 422, "invalid_request", "probe")
        assert api.factory.find(select(Job)) == []
        check_problem(api.client.get("/v1/jobs/job_none/plan"), 404, "not_found")

"""Training jobs that cannot work are refused with the numbers; what is not known is not held against them."""

from dataclasses import replace
from typing import Any

import pytest
from factories import Factory, request_of, spec_of, write
from sqlmodel import select

from modelyard.domain.errors import InvalidRequest
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.queues import Shape
from modelyard.domain.jobs.submission import submit
from modelyard.domain.jobs.tables import Job
from modelyard.domain.pipelines.advancement import advance
from modelyard.domain.planning.faults import Facts, find_fault
from modelyard.domain.specs import parse_spec
from modelyard.domain.specs.finetuning import FinetuneSpec
from modelyard.domain.specs.pretraining import PretrainSpec

GIB = 2**30


def fault_of(kind: str, facts: Facts, slots: int = 1, **changes: Any) -> tuple[str, object] | None:
    spec = parse_spec(spec_of(kind, **changes))
    assert isinstance(spec, PretrainSpec | FinetuneSpec)
    found = find_fault(spec, Shape(slots), facts)
    return None if found is None else (found.field, found.value)


class TestFindFault:
    @pytest.mark.parametrize(
        ("kind", "details", "is_fault"),
        [
            ("pretrain", {}, False),
            ("pretrain", {"schema": "text"}, False),
            ("pretrain", {"schema": "chat"}, True),
            ("finetune", {"schema": "chat"}, False),
            ("finetune", {"schema": "text"}, True),
            ("finetune", {"role": "upload", "format": "jsonl"}, True),
        ],
    )
    def test_rows_of_another_kind(self, kind: str, details: dict[str, Any], is_fault: bool) -> None:
        assert fault_of(kind, Facts(dataset=details)) == (("spec.dataset", "corpus") if is_fault else None)

    @pytest.mark.parametrize(
        ("details", "length", "is_fault"),
        [({}, 10**6, False), ({"context_length": None}, 10**6, False), ({"context_length": 512}, 512, False),
         ({"context_length": 512}, 513, True)],
    )  # fmt: skip
    def test_sequences_longer_than_the_model_reads(self, details: dict[str, Any], length: int, is_fault: bool) -> None:
        found = fault_of("finetune", Facts(model=details), sequence_length=length)
        assert found == (("spec.sequence_length", length) if is_fault else None)

    def test_an_adapter_is_no_model(self) -> None:
        assert fault_of("finetune", Facts(model={"role": "adapter"})) == ("spec.model", "base")

    @pytest.mark.parametrize(
        ("changes", "slots", "rooms", "is_fault"),
        [
            ({}, 1, [], False),
            ({}, 1, [40 * GIB], False),
            ({}, 1, [39 * GIB], True),
            ({}, 1, [39 * GIB, 41 * GIB], False),
            ({}, 1, [39 * GIB, None], False),
            ({"precision": "bf16"}, 1, [20 * GIB], False),
            ({"method": "qlora"}, 1, [6 * GIB], False),
            ({"deepspeed": {"zero_stage": 3}}, 1, [20 * GIB], True),
            ({"deepspeed": {"zero_stage": 3}}, 2, [20 * GIB], False),
            ({"deepspeed": {"zero_stage": 2}}, 2, [20 * GIB], True),
        ],
    )
    def test_weights_that_alone_exceed_every_machine(
        self, changes: dict[str, Any], slots: int, rooms: list[int | None], is_fault: bool
    ) -> None:
        found = fault_of("finetune", Facts(parameters=10 * GIB, rooms=rooms), slots, **changes)
        assert found == (("spec.precision", changes.get("precision", "fp32")) if is_fault else None)


class TestSubmit:
    def submit(self, factory: Factory, kind: str = "finetune", **spec: Any) -> Any:
        return write(factory.database, submit, factory.project_id, request_of(kind, spec=spec))

    def test_refuses_with_the_numbers_and_makes_nothing(self, factory: Factory) -> None:
        factory.registered("dataset", "corpus", schema="chat")
        factory.registered("model", "base", context_length=512)
        with pytest.raises(InvalidRequest, match=r"513 tokens are more than the 512 the model base reads; set 512 or less"):
            self.submit(factory, sequence_length=513)
        assert factory.find(select(Job)) == []
        self.submit(factory, sequence_length=512)

    def test_a_model_too_large_for_every_machine_known(self, factory: Factory) -> None:
        factory.registered("dataset", "corpus", schema="chat")
        factory.registered("model", "base", parameters=4 * GIB)
        assert self.submit(factory).state == JobState.QUEUED  # nobody knows a machine
        factory.worker("small@a", host_memory_bytes=8 * GIB)
        with pytest.raises(InvalidRequest, match=r"16\.0 GiB of weights per rank, and no machine .* more than 8\.0 GiB"):
            self.submit(factory)
        factory.worker("large@b", host_memory_bytes=64 * GIB, state="offline", silent_seconds=3600.0)
        assert self.submit(factory).state == JobState.QUEUED  # it may come back

    def test_gpus_count_for_those_who_may_use_them(self, factory: Factory) -> None:
        factory.registered("dataset", "corpus", schema="chat")
        factory.registered("model", "base", parameters=4 * GIB)
        factory.worker("gpu@a", gpus=(0,), gpu_memory_bytes=24 * GIB, host_memory_bytes=8 * GIB)
        assert self.submit(factory).state == JobState.QUEUED
        on_cpus = replace(request_of("finetune"), shape=Shape(1, "cpu"))
        with pytest.raises(InvalidRequest, match=r"more than 8\.0 GiB"):
            write(factory.database, submit, factory.project_id, on_cpus)

    def test_a_step_whose_input_turns_out_wrong_fails_and_says_why(self, factory: Factory) -> None:
        factory.registered("dataset", "corpus", schema="chat")
        factory.registered("model", "base", context_length=4096)
        job = factory.job("finetune", needs_approval=True, spec={"sequence_length": 1024})
        short = factory.registered("model", "short", context_length=512)
        factory.update(job, inputs={**job.inputs, "model": {**job.inputs["model"], "id": short.id}})
        ended = write(factory.database, advance, job.id)
        assert (ended.state, ended.reason) == (JobState.FAILED, "bad_data")
        assert "1024 tokens are more than the 512" in ended.message


@pytest.mark.parametrize("place", [{"package": "some", "file": "weights/model.BIN"}, {"path": "old/model.pt"}])
def test_pickled_weights_are_refused_before_anything_is_read(place: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is pickled, which can run code"):
        parse_spec(spec_of("import", source=place))

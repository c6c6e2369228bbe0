"""A queue's name says stage and shape, and nothing else is a queue."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from modelyard.domain.jobs.queues import ACCELERATORS, Shape, effective_accelerator, parse_queue, queue_name, queues_of_worker
from modelyard.domain.specs.registry import STAGES

SHAPES = some.builds(
    Shape, some.integers(min_value=1, max_value=999), some.sampled_from(ACCELERATORS), some.integers(min_value=1, max_value=99)
)


class TestName:
    @given(stage=some.sampled_from(STAGES), shape=SHAPES)
    def test_round_trip(self, stage: str, shape: Shape) -> None:
        assert parse_queue(queue_name(stage, shape)) == (stage, shape)

    @given(some.text(max_size=30))
    def test_other_names_are_refused_or_lead_back(self, text: str) -> None:
        try:
            stage, shape = parse_queue(text)
        except ValueError:
            return
        assert stage in STAGES
        assert parse_queue(queue_name(stage, shape)) == (stage, shape)

    @pytest.mark.parametrize(
        ("shape", "name"),
        [
            (Shape(), "finetune"),
            (Shape(2), "finetune.2slot"),
            (Shape(1, "gpu"), "finetune.1gpu"),
            (Shape(8, "gpu", 4), "finetune.4x8gpu"),
        ],
    )
    def test_table(self, shape: Shape, name: str) -> None:
        assert queue_name("finetune", shape) == name

    @pytest.mark.parametrize("name", ["", "dance", "finetune.", "finetune.2tpu", "finetune.xgpu", "celery", "finetune.2gpu\n"])
    def test_no_queue(self, name: str) -> None:
        with pytest.raises(ValueError, match="not a queue of this platform"):
            parse_queue(name)


class TestServe:
    def test_every_shape_that_fits(self) -> None:
        assert queues_of_worker(["finetune"], 2, 1) == [
            "finetune",
            "finetune.2slot",
            "finetune.1gpu",
            "finetune.1cpu",
            "finetune.2cpu",
        ]

    def test_one_slot_for_stages_of_one_process_and_no_gpu_for_those_without_use_for_it(self) -> None:
        assert queues_of_worker(["prepare"], 2, 1) == ["prepare", "prepare.1gpu"]
        assert parse_queue("prepare") == ("prepare", Shape(1, "cpu"))

    @given(cpu=some.integers(0, 8), gpus=some.integers(0, 8))
    def test_each_once(self, cpu: int, gpus: int) -> None:
        names = queues_of_worker(list(STAGES), cpu, gpus)
        assert len(set(names)) == len(names)

    @pytest.mark.parametrize(
        ("stage", "asked", "gets"),
        [("prepare", "any", "cpu"), ("prepare", "gpu", "gpu"), ("pretrain", "any", "any"), ("monitor", "any", "cpu")],
    )
    def test_stages_without_use_for_a_gpu_take_none(self, stage: str, asked: str, gets: str) -> None:
        assert effective_accelerator(stage, asked) == gets

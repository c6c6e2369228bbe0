"""What a worker listens to and takes: what is free, less what is kept for jobs of other queues."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from modelyard.domain.workers.outlook import Kept, Outlook
from modelyard.kit.slots import SlotPool
from modelyard.workers.engine.capacity import Capacity

SMALL, WIDE = "pretrain", "pretrain.2slot"


@pytest.fixture
def capacity(tmp_path: Path) -> Capacity:
    """Two CPU slots and two GPUs, all free."""
    return Capacity(SlotPool(tmp_path, "train", cpu_slots=2, gpus=(0, 1)))


class TestListen:
    @pytest.mark.parametrize(
        ("kept", "queue", "listens"),
        [
            pytest.param([], "pretrain.2cpu", True, id="all is free"),
            pytest.param([Kept(WIDE, "cpu", 2)], "pretrain.1cpu", False, id="all is kept for another queue"),
            pytest.param([Kept(WIDE, "cpu", 1)], "pretrain.1cpu", True, id="enough is left"),
            pytest.param([Kept(WIDE, "cpu", 1)], "pretrain.2cpu", False, id="not enough is left"),
            pytest.param([Kept("pretrain.2cpu", "cpu", 2)], "pretrain.2cpu", True, id="kept for this queue"),
            pytest.param([Kept(WIDE, "cpu", 2)], "pretrain.2gpu", True, id="GPUs are not CPU slots"),
            pytest.param([Kept(WIDE, "gpu", 2)], SMALL, True, id="a CPU slot will do"),
            pytest.param([Kept(WIDE, "gpu", 2), Kept(WIDE, "cpu", 2)], SMALL, False, id="neither is left"),
            pytest.param([Kept(WIDE, "gpu", 1), Kept("finetune.2slot", "gpu", 1)], "pretrain.1gpu", False, id="several jobs"),
        ],
    )
    def test_to_what_is_not_kept(self, capacity: Capacity, kept: Sequence[Kept], queue: str, listens: bool) -> None:
        capacity.outlook = Outlook(kept=kept)
        assert capacity.listens_to(queue) is listens
        held = capacity.take(queue)
        assert (held is not None) is listens
        if held is not None:
            held.release()

    def test_to_nothing_while_closed(self, capacity: Capacity) -> None:
        capacity.outlook = Outlook(is_open=False)
        assert (capacity.listens_to(SMALL), capacity.take(SMALL)) == (False, None)
        capacity.outlook = Outlook()
        assert capacity.listens_to(SMALL)


class TestTake:
    def test_what_is_kept_stays_free_though_it_is_the_better_one(self, capacity: Capacity) -> None:
        capacity.outlook = Outlook(kept=[Kept("finetune", "gpu", 2)])
        held = capacity.take(SMALL)
        assert held is not None
        assert held.accelerator == "cpu"
        held.release()

    def test_small_jobs_fill_what_is_left_until_the_wide_one_fits(self, tmp_path: Path) -> None:
        capacity = Capacity(SlotPool(tmp_path, "train", cpu_slots=3))
        running = capacity.take(SMALL)
        assert running is not None
        capacity.outlook = Outlook(kept=[Kept("pretrain.3slot", "cpu", 3)])
        assert capacity.take(SMALL) is None
        assert capacity.take("pretrain.3slot") is None, "one of its slots is still held"
        running.release()
        wide = capacity.take("pretrain.3slot")
        assert wide is not None
        wide.release()

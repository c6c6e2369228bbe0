"""Placing gangs: all of their workers at once or none, best first, nobody starved, nobody deadlocked."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.domain.scheduling.gangs import Placement, WaitingGang, WorkerView, count_room, keep_free, place

PRETRAIN = frozenset({"pretrain"})


def gang(job_id: str = "a", nodes: int = 2, slots: int = 1, **more: object) -> WaitingGang:
    return WaitingGang(job_id, "pretrain", nodes, slots, **more)  # type: ignore[arg-type]


def worker(name: str, free: int = 1, total: int = 0, host: str = "", gpus: int = 0, **more: object) -> WorkerView:
    slots = {"cpu": free, "gpu": gpus}
    most = {"cpu": total or max(free, 1), "gpu": gpus}
    return WorkerView(name, host or name, PRETRAIN, most, slots, **more)  # type: ignore[arg-type]


THREE = [worker("w1"), worker("w2"), worker("w3")]
CASES = {
    "both nodes fit": ([gang()], THREE, {"a": ("w1", "w2")}),
    "one worker too few: it takes none": ([gang(nodes=4)], THREE, {}),
    "two gangs, each needs two of three: one has both, the other nothing": ([gang("a"), gang("b")], THREE, {"a": ("w1", "w2")}),
    "the better one goes first": ([gang("a", order_key=2.0), gang("b", order_key=1.0)], THREE, {"b": ("w1", "w2")}),
    "fair share sets a project back that used too much": (
        [gang("a", order_key=1.0, set_back_seconds=60.0), gang("b", order_key=2.0)],
        THREE,
        {"b": ("w1", "w2")},
    ),
    "a worse one that fits does not wait for a better one that does not": (
        [gang("a", nodes=4, order_key=0.0), gang("b", order_key=1.0)],
        THREE,
        {"b": ("w1", "w2")},
    ),
    "machines of their own come first": (
        [gang()],
        [worker("w1", host="x"), worker("w2", host="x"), worker("w3", host="y", free=4)],
        {"a": ("w1", "w3")},
    ),
    "else workers of one machine do": ([gang()], [worker("w1", host="x"), worker("w2", host="x")], {"a": ("w1", "w2")}),
    "two nodes with GPUs need two machines": (
        [gang(accelerator="gpu")],
        [worker("w1", host="x", gpus=8), worker("w2", host="x", gpus=8)],
        {},
    ),
    "fewest slots left over": ([gang()], [worker("w1", free=4), worker("w2", free=2), worker("w3")], {"a": ("w3", "w2")}),
    "a worker of another stage does not count": ([gang()], [worker("w1"), replace(worker("w2"), stages=frozenset())], {}),
    "slots kept for another job are taken": (
        [gang()],
        [worker("w1"), worker("w2", free=2, reserved={"b": {"cpu": 2}})],
        {},
    ),
    "slots kept for it are its own": ([gang()], [worker("w1"), worker("w2", reserved={"a": {"cpu": 1}})], {"a": ("w1", "w2")}),
    "a machine it should avoid is left out while there are others": (
        [gang(avoid_hosts=frozenset({"w1"}))],
        THREE,
        {"a": ("w2", "w3")},
    ),
    "and used when there are not": (
        [gang(nodes=3, avoid_hosts=frozenset({"w1"}))],
        THREE,
        {"a": ("w1", "w2", "w3")},
    ),
    "GPUs before CPUs, and the same on all nodes": (
        [gang()],
        [worker("w1", gpus=1), worker("w2"), worker("w3", gpus=1)],
        {"a": ("w1", "w3")},
    ),
}  # fmt: skip


class TestPlace:
    @pytest.mark.parametrize(("gangs", "workers", "expected"), CASES.values(), ids=CASES.keys())
    def test_all_or_none(self, gangs: list[WaitingGang], workers: list[WorkerView], expected: dict[str, tuple[str, ...]]) -> None:
        assert {each.job_id: each.worker_ids for each in place(gangs, workers)} == expected


BUSY = [worker("w1", free=0), worker("w2", free=1, total=1), worker("w3", free=0)]


class TestKeepFree:
    def test_nothing_before_its_time(self) -> None:
        assert keep_free([gang(waited_seconds=59.0)], BUSY, after_seconds=60.0) == []

    def test_the_emptiest_workers_then_those_kept_already(self) -> None:
        late = gang(waited_seconds=61.0)
        assert keep_free([late], BUSY, 60.0) == [Placement("a", "cpu", ("w2", "w1"))]
        kept = [worker("w1", free=0), worker("w2", free=1), worker("w3", free=0, reserved={"a": {"cpu": 1}})]
        assert keep_free([late], kept, 60.0) == [Placement("a", "cpu", ("w3", "w2"))]

    def test_one_gang_only_the_best_that_could_ever_run(self) -> None:
        too_large = gang("a", nodes=4, waited_seconds=900.0, order_key=0.0)
        worse = gang("c", waited_seconds=61.0, order_key=2.0)
        best = gang("b", waited_seconds=61.0, order_key=1.0)
        kept = keep_free([worse, best, too_large], BUSY, 60.0)
        assert [each.job_id for each in kept] == ["b"]

    def test_who_has_all_its_workers_kept_goes_on_having_them(self) -> None:
        """Else those who made room for it would have done so in vain, for one that came later and is better."""
        kept = [worker(name, free=0, reserved={"a": {"cpu": 1}}) for name in ("w1", "w2")]
        free = [worker("w3", free=0), worker("w4", free=0)]
        better = gang("b", waited_seconds=99.0, order_key=-1.0)
        assert keep_free([gang("a"), better], [*kept, *free], 60.0) == [Placement("a", "cpu", ("w1", "w2"))]
        assert [each.job_id for each in keep_free([better], [*kept, *free], 60.0)] == ["b"]

    def test_several_that_displaced_others_keep_theirs_side_by_side(self) -> None:
        yard = [worker(name, free=0, reserved={job: {"cpu": 1}}) for name, job in zip("wxyz", "aabb", strict=True)]
        assert [each.worker_ids for each in keep_free([gang("b"), gang("a")], yard, 60.0)] == [("w", "x"), ("y", "z")]

    @pytest.mark.parametrize("left", [[], [worker("w1", reserved={"a": {"cpu": 1}})]])
    def test_one_whose_worker_went_away_chooses_anew(self, left: list[WorkerView]) -> None:
        others = [worker("w2", free=0), worker("w3", free=0)]
        assert len(keep_free([gang("a", waited_seconds=99.0)], [*left, *others], 60.0)[0].worker_ids) == 2
        assert keep_free([gang("a", waited_seconds=1.0)], [*left, *others], 60.0) == []

    def test_workers_kept_for_another_job_are_left_alone(self) -> None:
        others = [worker("w1", reserved={"wide": {"cpu": 1}}), worker("w2")]
        assert keep_free([gang(waited_seconds=99.0)], others, 60.0) == []


class TestCountRoom:
    def test_how_many_have_room_and_how_many_could(self) -> None:
        assert count_room(gang(nodes=3), BUSY) == (1, 3)


@dataclass
class Yard:
    """A pure platform: workers with CPU slots, small jobs that never stop coming, gangs that run for a while."""

    sizes: list[int]
    gangs: dict[str, WaitingGang]
    lasts: int
    running: dict[str, tuple[Placement, int]] = field(default_factory=dict)
    small: list[tuple[str, int]] = field(default_factory=list)
    """(worker, until)."""
    kept: list[Placement] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def views(self) -> list[WorkerView]:
        slots = {f"w{number}": size for number, size in enumerate(self.sizes)}
        free = dict(slots)
        for placement, _ in self.running.values():
            for name in placement.worker_ids:
                free[name] -= self.gangs[placement.job_id].slots
        for name, _ in self.small:
            free[name] -= 1
        return [
            WorkerView(name, name, PRETRAIN, {"cpu": slots[name]}, {"cpu": free[name]}, self.reserved(name)) for name in slots
        ]

    def reserved(self, name: str) -> dict[str, dict[str, int]]:
        kept = [each for each in self.kept if name in each.worker_ids]
        return {each.job_id: {"cpu": self.gangs[each.job_id].slots} for each in kept}

    def step(self, now: int) -> None:
        self.done += [job_id for job_id, (_, until) in self.running.items() if until <= now]
        self.running = {job_id: entry for job_id, entry in self.running.items() if entry[1] > now}
        self.small = [entry for entry in self.small if entry[1] > now]
        waiting = [
            replace(each, waited_seconds=float(now))
            for each in self.gangs.values()
            if each.job_id not in self.running and each.job_id not in self.done
        ]
        placed = place(waiting, self.views())
        for placement in placed:
            each = self.gangs[placement.job_id]
            assert len(set(placement.worker_ids)) == each.nodes, "never placed in part"
            self.running[placement.job_id] = (placement, now + self.lasts)
        assert all(view.free["cpu"] >= 0 for view in self.views()), "nothing is given away twice"
        left = [each for each in waiting if each.job_id not in self.running]
        self.kept = keep_free(left, self.views(), after_seconds=3.0)
        for view in self.views():  # small jobs take whatever nobody keeps, at once and for ever
            self.small += [(view.id, now + 1 + number % 2) for number in range(max(0, view.room_for("small", "cpu")))]


class TestSimulation:
    @settings(max_examples=60, deadline=None)
    @given(
        sizes=st.lists(st.integers(1, 4), min_size=2, max_size=5),
        shapes=st.lists(st.tuples(st.integers(2, 5), st.integers(1, 4), st.floats(0, 9)), min_size=1, max_size=6),
        lasts=st.integers(1, 5),
    )
    def test_every_gang_that_could_run_does(self, sizes: list[int], shapes: list[tuple[int, int, float]], lasts: int) -> None:
        gangs = {f"g{n}": gang(f"g{n}", nodes, slots, order_key=key) for n, (nodes, slots, key) in enumerate(shapes)}
        yard = Yard(sizes, gangs, lasts)
        for now in range(len(gangs) * (lasts + 8) + 10):
            yard.step(now)
        possible = {name for name, each in gangs.items() if sum(size >= each.slots for size in sizes) >= each.nodes}
        assert set(yard.done) | set(yard.running) == possible

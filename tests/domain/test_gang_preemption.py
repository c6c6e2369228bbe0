"""Who makes room for a gang: a table, and the set found compared with every other set."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.domain.scheduling.gang_preemption import choose_gang_victims
from modelyard.domain.scheduling.gangs import WaitingGang, WorkerView
from modelyard.domain.scheduling.preemption import MARGIN
from modelyard.domain.scheduling.yard import Pool, Reserved, Running, Yard

GRACE = 60.0


def gang(nodes: int = 2, slots: int = 1, priority: int = 80, **more: Any) -> WaitingGang:
    return WaitingGang("urgent", "pretrain", nodes, slots, priority=priority, **more)


def worker(name: str, slots: int = 1, host: str = "", kind: str = "cpu", stage: str = "pretrain") -> tuple[WorkerView, Pool]:
    """A worker as `place` sees it, and its slots as `survey` does; GPUs belong to the machine."""
    host = host or name
    owner = host if kind == "gpu" else name
    view = WorkerView(name, host, frozenset({stage}), {kind: slots}, {kind: slots})
    return view, Pool(name, host, kind, frozenset(), frozenset(f"{owner}/{kind}-{index}" for index in range(slots)))


def runs(job: str, *slots: str, **more: Any) -> Running:
    """A job on slots like `a/cpu-0`, written `a0`; it may be displaced, unless told otherwise."""
    held = frozenset(f"{slot[:-1]}/cpu-{slot[-1]}" for slot in slots)
    return Running(job, 1, held, **{"priority": 50, "may_be_preempted": True, **more})


def seats(job: str, *slots: str, **more: Any) -> list[Running]:
    """A gang with one slot on each of some workers."""
    return [runs(job, slot, is_seat=True, **more) for slot in slots]


Workers = Sequence[tuple[WorkerView, Pool]]
ABC = [worker("a"), worker("b"), worker("c")]
EACH = [runs("cheap", "a0", lost=1.0), runs("dear", "b0", lost=90.0), runs("fair", "c0", lost=9.0)]


def choose(gang: WaitingGang, workers: Workers, running: Sequence[Running], *reserved: Reserved) -> tuple[Any, Any] | None:
    """Victims and workers, sorted."""
    yard = Yard(0.0, [pool for _, pool in workers], running, reserved)
    chosen = choose_gang_victims(gang, [view for view, _ in workers], yard, GRACE)
    return None if chosen is None else (sorted(each.job_id for each in chosen.jobs), sorted(chosen.worker_ids))


class TestChoose:
    @pytest.mark.parametrize(
        ("wanting", "workers", "running", "victims"),
        [
            pytest.param(gang(), ABC, EACH, (["cheap", "fair"], ["a", "c"]), id="least work lost, over two machines"),
            pytest.param(gang(3), ABC, EACH, (["cheap", "dear", "fair"], ["a", "b", "c"]), id="as many as it takes"),
            pytest.param(gang(4), ABC, EACH, None, id="nobody where it would not fit even so"),
            pytest.param(gang(), ABC, EACH[:2], (["cheap"], ["a", "c"]), id="what is free counts"),
            pytest.param(gang(), ABC, EACH[:1], None, id="it fits already"),
            pytest.param(gang(priority=60), ABC, EACH, (["cheap", "fair"], ["a", "c"]), id="the margin is enough"),
            pytest.param(gang(priority=59), ABC, EACH, None, id="the margin is not"),
            pytest.param(
                gang(),
                ABC,
                [EACH[0], runs("own", "b0", may_be_preempted=False), runs("old", "c0", may_be_preempted=False)],
                None,
                id="one of two would not be enough: nobody is displaced",
            ),
            pytest.param(
                gang(),
                ABC,
                [EACH[0], EACH[1], runs("low", "c0", priority=10, lost=999.0)],
                (["cheap", "dear"], ["a", "b"]),
                id="equal highest priority: least lost in all",
            ),
            pytest.param(
                gang(),
                ABC,
                [runs("high", "a0", priority=70), EACH[1], EACH[2]],
                (["dear", "fair"], ["b", "c"]),
                id="the lowest priority first, whatever it loses",
            ),
            pytest.param(
                gang(), ABC, [EACH[0], EACH[1], runs("x", "c0", is_leaving=True)], (["cheap"], ["a", "c"]), id="one goes"
            ),
            pytest.param(gang(), ABC, [EACH[0], EACH[1], runs("x", "c0", ends_at=59.0)], (["cheap"], ["a", "c"]), id="soon done"),
            pytest.param(
                gang(),
                ABC,
                [EACH[0], runs("x", "b0", ends_at=59.0), runs("y", "c0", is_leaving=True)],
                None,
                id="waiting is enough",
            ),
            pytest.param(
                gang(2, 2),
                [worker("a", 2), worker("b", 2), worker("c", 1)],
                [runs("a0", "a0", lost=2.0), runs("a1", "a1", lost=2.0), runs("b", "b0", "b1", lost=3.0), runs("c", "c0")],
                (["a0", "a1", "b"], ["a", "b"]),
                id="several slots a node; a worker too small does not count",
            ),
            pytest.param(
                gang(), [*ABC[:2], worker("c", stage="data")], EACH, (["cheap", "dear"], ["a", "b"]), id="its stage only"
            ),
            pytest.param(
                gang(avoid_hosts=frozenset("a")), ABC, EACH, (["dear", "fair"], ["b", "c"]), id="not where it was lost before"
            ),
            pytest.param(
                gang(avoid_hosts=frozenset("ab")),
                ABC,
                EACH,
                (["cheap", "fair"], ["a", "c"]),
                id="unless there are too few others",
            ),
        ],
    )
    def test_table(
        self, wanting: WaitingGang, workers: Workers, running: list[Running], victims: tuple[list[str], list[str]] | None
    ) -> None:
        assert choose(wanting, workers, running) == victims

    def test_what_is_kept_for_others_is_left_alone(self) -> None:
        kept = Reserved("other", "a", "cpu", 1)
        assert choose(gang(), ABC, EACH, kept) == (["dear", "fair"], ["b", "c"])
        assert choose(gang(), ABC, EACH, Reserved("urgent", "a", "cpu", 1)) == (["cheap", "fair"], ["a", "c"])
        assert choose(gang(), ABC, EACH[1:], kept) == (["dear", "fair"], ["b", "c"]), "free, but kept"
        wide = [worker("a", 2), *ABC[1:]]
        running = [runs("free", "a0", lost=0.0), runs("gratis", "a1", lost=0.0), *EACH[1:]]
        assert choose(gang(), wide, running, kept) == (["dear", "fair"], ["b", "c"]), "nobody leaves for two at once"

    def test_two_workers_that_lend_the_same_gpus_are_one_machine(self) -> None:
        box = [worker("a", 2, host="box", kind="gpu"), worker("b", 2, host="box", kind="gpu"), worker("c", 2, kind="gpu")]
        on_box = Running("x", 1, frozenset({"box/gpu-0", "box/gpu-1"}), may_be_preempted=True)
        on_c = Running("y", 1, frozenset({"c/gpu-0", "c/gpu-1"}), may_be_preempted=True)
        assert choose(gang(2, 2), box, [on_box, on_c]) == (["x", "y"], ["a", "c"])
        assert choose(gang(2, 2), box[:2], [on_box]) is None


class TestChooseGangs:
    """A running gang is one job: displacing a seat of it displaces all, and is paid for once."""

    def test_one_that_makes_room_on_two_machines(self) -> None:
        running = [*seats("wide", "a0", "b0", lost=8.0), runs("x", "c0", lost=5.0)]
        assert choose(gang(), ABC, running) == (["wide"], ["a", "b"])

    def test_not_where_single_jobs_lose_less(self) -> None:
        running = [*seats("wide", "a0", "b0", lost=8.0), runs("x", "c0", lost=3.0), runs("y", "d0", lost=4.0)]
        assert choose(gang(), [*ABC, worker("d")], running) == (["x", "y"], ["c", "d"])

    def test_together_with_single_jobs(self) -> None:
        running = [*seats("wide", "a0", "b0", lost=8.0), runs("x", "c0", lost=3.0)]
        assert choose(gang(3), ABC, running) == (["wide", "x"], ["a", "b", "c"])

    def test_never_one_that_did_not_agree_or_is_as_important(self) -> None:
        for change in ({"may_be_preempted": False}, {"priority": 80 - MARGIN + 1}):
            assert choose(gang(), ABC, [*seats("wide", "a0", "b0", **change), runs("x", "c0")]) is None


jobs = st.lists(
    st.tuples(st.integers(1, 2), st.sampled_from([10, 40, 75]), st.integers(0, 9), st.sampled_from("mmmmfls")), max_size=7
)


class TestCheapest:
    @settings(max_examples=300, deadline=None)
    @given(
        sizes=st.lists(st.integers(1, 3), min_size=2, max_size=4),
        drawn=jobs,
        gangs=st.lists(st.tuples(st.integers(2, 3), st.sampled_from([10, 40]), st.integers(0, 20)), max_size=2),
        nodes=st.integers(2, 3),
        slots=st.integers(1, 3),
    )
    def test_no_other_set_is_cheaper(
        self,
        sizes: list[int],
        drawn: list[tuple[int, int, int, str]],
        gangs: list[tuple[int, int, int]],
        nodes: int,
        slots: int,
    ) -> None:
        workers = [worker(name, size) for name, size in zip("abcd", sizes, strict=False)]
        running = fill(dict(zip("abcd", sizes, strict=False)), drawn, gangs)
        chosen = choose_gang_victims(
            gang(nodes, slots), [view for view, _ in workers], Yard(0.0, [pool for _, pool in workers], running), GRACE
        )
        prices = every_price([pool for _, pool in workers], running, nodes, slots)
        if chosen is None:
            assert not prices or min(prices) == (-1, 0.0, 0), "somebody could have made room"
        else:
            lost = sum(each.lost for each in chosen.jobs)
            assert (max(each.priority for each in chosen.jobs), lost, len(chosen.jobs)) == min(prices)


def fill(sizes: dict[str, int], drawn: list[tuple[int, int, int, str]], gangs: list[tuple[int, int, int]]) -> list[Running]:
    """Gangs and jobs on the slots of workers, as long as there are any."""
    free = {name: [f"{name}{index}" for index in range(size)] for name, size in sizes.items()}
    running: list[Running] = []
    for number, (nodes, priority, lost) in enumerate(gangs):
        where = [name for name in free if free[name]][:nodes]
        if len(where) == nodes:
            running += seats(f"gang-{number}", *(free[name].pop() for name in where), priority=priority, lost=float(lost))
    for number, (width, priority, lost, how) in enumerate(drawn):
        name = max(free, key=lambda each: len(free[each]))
        if len(free[name]) >= width:
            held = [free[name].pop() for _ in range(width)]
            more = {"may_be_preempted": how != "f", "is_leaving": how == "l", "ends_at": 30.0 if how == "s" else None}
            running.append(runs(f"job-{number}", *held, priority=priority, lost=float(lost), **more))
    return running


def every_price(pools: list[Pool], running: list[Running], nodes: int, slots: int) -> list[tuple[int, float, int]]:
    """(highest priority, lost, number) of every set of jobs after whose leaving the gang fits; (−1, 0, 0) for nobody."""
    going = [each for each in running if each.is_leaving or each.ends_at is not None]
    able = {each.job_id: each for each in running if each.may_be_preempted and each not in going and each.priority <= 70}
    prices = []
    for some in itertools.chain.from_iterable(itertools.combinations(able.values(), n) for n in range(len(able) + 1)):
        leaving = {each.job_id for each in (*some, *going)}
        held = {slot for each in running if each.job_id not in leaving for slot in each.slots}
        if sum(len(pool.slots - held) >= slots for pool in pools) >= nodes:
            prices.append((max((each.priority for each in some), default=-1), sum(each.lost for each in some), len(some)))
    return prices

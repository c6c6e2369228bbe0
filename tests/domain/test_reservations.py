"""Which slots are kept for whom: a table of decisions, and a simulation of what they are for."""

from collections.abc import Sequence
from typing import Any

import pytest

from modelyard.domain.scheduling.reservations import Release, Reserve, decide_reservations
from modelyard.domain.scheduling.yard import Pool, Reserved, Running, Waiting, Yard

AFTER = 60.0


def pool(name: str = "a", cpu: int = 4, accelerator: str = "cpu", host: str | None = None, queues: str = "wide small") -> Pool:
    """A worker's slots; GPUs belong to the machine."""
    owner = host or name if accelerator == "gpu" else name
    slots = frozenset(f"{owner}/{accelerator}-{index}" for index in range(cpu))
    return Pool(name, host or name, accelerator, frozenset(queues.split()), slots)


def wide(job_id: str = "w", slots: int = 2, waited: float = 100.0, **more: Any) -> Waiting:
    """A job of several slots that has waited long enough."""
    return Waiting(job_id, "wide", slots, waited_seconds=waited, **{"order_key": 10.0, **more})


def small(job_id: str = "s", **more: Any) -> Waiting:
    """A job of one slot."""
    return Waiting(job_id, "small", 1, **more)


def holds(where: str, *indices: int, **more: Any) -> Running:
    """A job that holds slots of a worker."""
    slots = frozenset(f"{where}/{more.get('kind', 'cpu')}-{index}" for index in indices)
    more.pop("kind", None)
    return Running(f"{where}-{indices}", 1, slots, **more)


def kept(job_id: str = "w", worker: str = "a", slots: int = 2, accelerator: str = "cpu", **more: Any) -> Reserved:
    return Reserved(job_id, worker, accelerator, slots, **more)


BUSY = holds("a", 0, 1, 2)
"""One of four slots is free."""


class TestReserve:
    @pytest.mark.parametrize(
        ("waiting", "yard", "reserved"),
        [
            pytest.param([wide()], Yard(0, [pool()], [BUSY]), ["w@a"], id="fits nowhere, waited long"),
            pytest.param([wide(waited=59)], Yard(0, [pool()], [BUSY]), [], id="has not waited long"),
            pytest.param([wide()], Yard(0, [pool()], [holds("a", 0)]), [], id="fits now"),
            pytest.param([small(waited_seconds=999)], Yard(0, [pool(cpu=1)], [holds("a", 0)]), [], id="small ones never"),
            pytest.param([wide(slots=8)], Yard(0, [pool()], [BUSY]), [], id="fits no worker at all"),
            pytest.param([wide()], Yard(0, [pool(queues="small")], [BUSY]), [], id="nobody serves its queue"),
            pytest.param([wide(accelerator="gpu")], Yard(0, [pool()], [BUSY]), [], id="no GPU there"),
            pytest.param(
                [wide(slots=3)],
                Yard(0, [pool()], [holds("a", 0, 1, is_service=True), holds("a", 2)]),
                [],
                id="services never make room",
            ),
            pytest.param(
                [wide(slots=3)],
                Yard(0, [pool()], [holds("a", 0, 1, is_service=True, is_leaving=True), holds("a", 2)]),
                ["w@a"],
                id="but one that was told to leave does",
            ),
            pytest.param(
                [wide(slots=4)], Yard(0, [pool(), pool("b")], [BUSY, holds("b", 0, 1)]), ["w@b"], id="where most is free"
            ),
            pytest.param(
                [wide(slots=4)],
                Yard(0, [pool(), pool("b")], [holds("a", 0), holds("b", 0, ends_at=50.0)]),
                ["w@b"],
                id="equally free: where it ends first",
            ),
            pytest.param(
                [wide(slots=4, avoid_hosts=frozenset("b"))],
                Yard(0, [pool(), pool("b")], [BUSY, holds("b", 0)]),
                ["w@a"],
                id="not where it was lost before",
            ),
            pytest.param(
                [wide(slots=4, avoid_hosts=frozenset("a"))], Yard(0, [pool()], [BUSY]), ["w@a"], id="unless there is no other"
            ),
            pytest.param(
                [wide("late", order_key=2.0), wide("early", order_key=1.0, slots=4)],
                Yard(0, [pool()], [BUSY]),
                ["early@a"],
                id="best first, never more than there is",
            ),
            pytest.param(
                [wide("x", order_key=1.0), wide("y", order_key=2.0), wide("z", order_key=3.0)],
                Yard(0, [pool()], [BUSY]),
                ["x@a", "y@a"],
                id="as many as there is room for",
            ),
            pytest.param(
                [small("s", order_key=1.0), wide(slots=4)], Yard(0, [pool()], [BUSY]), [], id="a better small one goes first"
            ),
            pytest.param(
                [small("s", order_key=11.0), wide(slots=4)], Yard(0, [pool()], [BUSY]), ["w@a"], id="a worse small one does not"
            ),
            pytest.param(
                [small("s", order_key=1.0), wide(slots=4)],
                Yard(0, [pool(), pool("b", cpu=1)], [BUSY, holds("b", 0)]),
                ["w@a"],
                id="a better small one has room elsewhere",
            ),
            pytest.param(
                [wide(slots=4)], Yard(0, [pool()], [BUSY], [kept("gang", slots=1, is_fixed=True)]), [], id="a gang has it already"
            ),
            pytest.param(
                [wide("x", slots=2, order_key=1.0, accelerator="gpu"), wide("y", slots=2, order_key=2.0, accelerator="gpu")],
                Yard(
                    0,
                    [pool("a", 2, "gpu", host="h"), pool("b", 2, "gpu", host="h")],
                    [holds("h", 0, kind="gpu"), holds("h", 1, kind="gpu")],
                ),
                ["x@a"],
                id="two workers of one machine lend the same GPUs",
            ),
        ],
    )
    def test_new(self, waiting: Sequence[Waiting], yard: Yard, reserved: list[str]) -> None:
        decided = decide_reservations(waiting, yard, AFTER)
        assert all(isinstance(each, Reserve) and each.is_new for each in decided)
        assert [f"{each.reserved.job_id}@{each.reserved.worker_id}" for each in decided] == reserved

    def test_any_prefers_gpus_but_takes_what_is_free_first(self) -> None:
        gpus, cpus = pool("a", 2, "gpu", host="h"), pool("a", 2, host="h")
        both_busy = Yard(0, [cpus, gpus], [holds("h", 0, 1, kind="gpu"), holds("a", 0, 1)])
        assert self.first(both_busy).accelerator == "gpu"
        half_free = Yard(0, [cpus, gpus], [holds("h", 0, 1, kind="gpu"), holds("a", 0)])
        assert self.first(half_free).accelerator == "cpu"

    def first(self, yard: Yard) -> Reserved:
        return decide_reservations([wide()], yard, AFTER)[0].reserved


class TestKeep:
    @pytest.mark.parametrize(
        ("waiting", "yard"),
        [
            pytest.param([wide()], Yard(0, [pool()], [BUSY], [kept()]), id="still does not fit"),
            pytest.param([wide()], Yard(0, [pool()], [], [kept()]), id="fits, and is about to be claimed"),
            pytest.param([wide()], Yard(0, [pool(), pool("b")], [BUSY], [kept()]), id="stays though another has more free"),
            pytest.param([wide(waited=0)], Yard(0, [pool()], [BUSY], [kept()]), id="made by preemption, however short it waited"),
            pytest.param([wide(slots=1)], Yard(0, [pool()], [BUSY], [kept(slots=1)]), id="made by preemption, one slot"),
        ],
    )
    def test_kept(self, waiting: Sequence[Waiting], yard: Yard) -> None:
        assert decide_reservations(waiting, yard, AFTER) == [Reserve(yard.reserved[0], is_new=False)]

    @pytest.mark.parametrize(
        ("waiting", "yard", "moved_to"),
        [
            pytest.param([], Yard(0, [pool()], [], [kept()]), None, id="it started or ended"),
            pytest.param([wide()], Yard(0, [], [], [kept()]), None, id="the worker is gone or takes no jobs"),
            pytest.param([wide()], Yard(0, [pool("b")], [holds("b", 0, 1, 2)], [kept()]), "b", id="gone, another is there"),
            pytest.param([wide()], Yard(0, [pool(queues="small")], [], [kept()]), None, id="the worker serves it no longer"),
            pytest.param(
                [wide("better", slots=4, order_key=1.0), wide()], Yard(0, [pool()], [BUSY], [kept()]), "a", id="a better one came"
            ),
            pytest.param(
                [wide()], Yard(0, [pool()], [BUSY], [kept("gang", slots=4, is_fixed=True), kept()]), None, id="a gang took it all"
            ),
        ],
    )
    def test_released(self, waiting: Sequence[Waiting], yard: Yard, moved_to: str | None) -> None:
        decided = decide_reservations(waiting, yard, AFTER)
        assert [each.reserved for each in decided if isinstance(each, Release)] == [kept()]
        assert [each.reserved.worker_id for each in decided if isinstance(each, Reserve)] == [moved_to] * bool(moved_to)


class TestStarve:
    """A worker of two slots, small jobs of 90 s submitted every 40 s, and one job that needs both slots."""

    SECONDS, LASTS, EVERY = 3600, 90, 40

    def simulate(self, after_seconds: float) -> int | None:
        """When the wide job starts, in seconds; None if never. Slots go to whatever fits, as workers listen."""
        yard_pool, running, queue = pool(cpu=2), dict[str, int](), list[int]()
        reserved: list[Reserved] = []
        for now in range(self.SECONDS):
            queue += [now] if now % self.EVERY == 0 else []
            running = {slot: end for slot, end in running.items() if end > now}
            free = sorted(yard_pool.slots - set(running))
            if len(free) == 2 and now > 0:
                return now
            room = len(free) - sum(each.slots for each in reserved)
            for slot in free[: max(room, 0)]:
                if queue:
                    running[slot], _ = now + self.LASTS, queue.pop(0)
            held = [Running(slot, 1, frozenset({slot})) for slot in running]
            waiting = [wide(waited=float(now), order_key=0.0), *(small(f"s{at}", order_key=float(at + 1)) for at in queue)]
            decided = decide_reservations(waiting, Yard(now, [yard_pool], held, reserved), after_seconds)
            reserved = [each.reserved for each in decided if isinstance(each, Reserve)]
        return None

    def test_without_a_reservation_it_never_starts(self) -> None:
        assert self.simulate(float("inf")) is None

    def test_with_one_it_starts_when_what_ran_has_ended(self) -> None:
        started = self.simulate(AFTER)
        assert started is not None
        assert AFTER < started <= AFTER + self.LASTS + self.EVERY

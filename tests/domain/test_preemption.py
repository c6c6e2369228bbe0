"""Who makes room for whom: a table, and the cheapest set found against every other set."""

import itertools
import random
from typing import Any

import pytest

from modelyard.domain.scheduling.preemption import choose_victims
from modelyard.domain.scheduling.yard import Pool, Reserved, Running, Waiting, Yard

GRACE = 60.0


def pool(name: str = "a", slots: int = 2, host: str | None = None) -> Pool:
    return Pool(name, host or name, "cpu", frozenset({"q"}), frozenset(f"{name}/{index}" for index in range(slots)))


def job(slots: int = 1, priority: int = 80, **more: Any) -> Waiting:
    return Waiting("urgent", "q", slots, priority=priority, **more)


def runs(name: str, *indices: int, where: str = "a", **more: Any) -> Running:
    """A job that may be displaced, unless told otherwise."""
    slots = frozenset(f"{where}/{index}" for index in indices)
    return Running(name, 1, slots, **{"priority": 50, "may_be_preempted": True, **more})


CHEAP, DEAR = runs("cheap", 0, lost=10.0), runs("dear", 1, lost=500.0)


class TestChoose:
    @pytest.mark.parametrize(
        ("wanting", "yard", "victims"),
        [
            pytest.param(job(), Yard(0, [pool()], [CHEAP, DEAR]), ["cheap"], id="least work lost"),
            pytest.param(job(2), Yard(0, [pool()], [CHEAP, DEAR]), ["cheap", "dear"], id="as many as it takes"),
            pytest.param(job(priority=60), Yard(0, [pool()], [CHEAP, DEAR]), ["cheap"], id="the margin is enough"),
            pytest.param(job(priority=59), Yard(0, [pool()], [CHEAP, DEAR]), None, id="the margin is not"),
            pytest.param(job(priority=50), Yard(0, [pool()], [CHEAP, DEAR]), None, id="never one of equal priority"),
            pytest.param(
                job(),
                Yard(0, [pool()], [runs("seat", 0, is_seat=True, lost=99.0), runs("single", 1, lost=98.0)]),
                ["single"],
                id="a gang costs what all its nodes lose",
            ),
            pytest.param(job(), Yard(0, [pool()], [runs("x", 0, 1, may_be_preempted=False)]), None, id="only who agreed to it"),
            pytest.param(job(), Yard(0, [pool()], [CHEAP]), None, id="it fits already"),
            pytest.param(job(), Yard(0, [pool(), pool("b")], [CHEAP, DEAR]), None, id="it fits on another worker"),
            pytest.param(job(3), Yard(0, [pool()], [CHEAP, DEAR]), None, id="it would never fit"),
            pytest.param(
                job(),
                Yard(0, [pool()], [CHEAP, runs("low", 1, priority=10, lost=9999.0)]),
                ["low"],
                id="the lowest priority first, whatever it loses",
            ),
            pytest.param(
                job(2),
                Yard(0, [pool(slots=3)], [runs("a", 0, lost=5.0), runs("b", 1, lost=5.0), runs("both", 2, lost=1.0)]),
                ["a", "both"],
                id="no more than needed",
            ),
            pytest.param(
                job(2),
                Yard(0, [pool(slots=4)], [runs("one", 0, lost=5.0), runs("two", 1, lost=5.0), runs("wide", 2, 3, lost=10.0)]),
                ["wide"],
                id="equally dear: the fewest",
            ),
            pytest.param(
                job(2),
                Yard(0, [pool(), pool("b")], [CHEAP, DEAR, runs("x", 0, where="b", lost=1.0), runs("y", 1, where="b", lost=2.0)]),
                ["x", "y"],
                id="all on one worker, the cheaper one",
            ),
            pytest.param(
                job(avoid_hosts=frozenset({"b"})),
                Yard(0, [pool(), pool("b")], [CHEAP, DEAR, runs("x", 0, 1, where="b")]),
                ["cheap"],
                id="not where it would not be started",
            ),
            pytest.param(job(), Yard(0, [pool()], [CHEAP, runs("gone", 1, is_leaving=True)]), None, id="one is leaving"),
            pytest.param(job(), Yard(0, [pool()], [CHEAP, runs("x", 1, ends_at=59.0)]), None, id="one ends in time"),
            pytest.param(job(), Yard(0, [pool()], [CHEAP, runs("x", 1, ends_at=61.0, lost=99.0)]), ["cheap"], id="too late"),
            pytest.param(
                job(2), Yard(0, [pool()], [CHEAP, runs("x", 1, is_leaving=True)]), ["cheap"], id="one leaves, which is not enough"
            ),
            pytest.param(
                job(), Yard(0, [pool()], [CHEAP], [Reserved("other", "a", "cpu", 1)]), ["cheap"], id="what is kept is not free"
            ),
            pytest.param(
                job(), Yard(0, [pool()], [CHEAP, DEAR], [Reserved("other", "a", "cpu", 1)]), None, id="others' victims are theirs"
            ),
            pytest.param(
                job(),
                Yard(0, [pool()], [CHEAP, DEAR], [Reserved("urgent", "a", "cpu", 1)]),
                ["cheap"],
                id="its own",
            ),
        ],
    )
    def test_table(self, wanting: Waiting, yard: Yard, victims: list[str] | None) -> None:
        chosen = choose_victims(wanting, yard, GRACE)
        assert (chosen and sorted(each.job_id for each in chosen.jobs)) == victims

    @pytest.mark.parametrize("seed", range(40))
    def test_no_other_set_is_cheaper(self, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - a repeatable draw, no secret
        running, slot = [], 0
        while slot < 8:
            width = min(chance.choice([1, 1, 2, 4]), 8 - slot)
            lost, priority = float(chance.randrange(20)), chance.choice([10, 40, 70, 75])
            running.append(runs(f"j{slot}", *range(slot, slot + width), lost=lost, priority=priority))
            slot += width
        needed = chance.randrange(1, 9)
        chosen = choose_victims(job(needed), Yard(0, [pool(slots=8)], running), GRACE)
        able = [each for each in running if each.priority <= 70]
        sets = [some for count in range(1, len(able) + 1) for some in itertools.combinations(able, count)]
        enough = [some for some in sets if sum(len(each.slots) for each in some) >= needed]
        prices = [(max(each.priority for each in some), sum(each.lost for each in some), len(some)) for some in enough]
        if chosen is None:
            assert prices == []
        else:
            lost = sum(each.lost for each in chosen.jobs)
            assert (max(each.priority for each in chosen.jobs), lost, len(chosen.jobs)) == min(prices)

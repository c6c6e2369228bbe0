"""Which trial is worth more steps: asynchronous successive halving as a table."""

import math

import pytest

from modelyard.domain.sweeps.halving import Entrant, find_last_hope, find_promotable, list_rungs, rank_at

RUNGS = [10, 20, 40]
NAN = math.inf
"""What a NaN counts as."""


def waiting(number: int, *losses: float) -> Entrant:
    """A trial that waits at the last rung it reached."""
    return Entrant(number, dict(zip(RUNGS, losses, strict=False)), is_waiting=True)


def gone(number: int, *losses: float) -> Entrant:
    """A trial that was promoted from the last rung it reached."""
    return Entrant(number, dict(zip(RUNGS, losses, strict=False)))


def failed(number: int, *losses: float) -> Entrant:
    """A trial that failed after the last rung it reached."""
    return Entrant(number, dict(zip(RUNGS, losses, strict=False)), has_failed=True)


PROMOTIONS = [
    ("nobody is there", [], None),
    ("one is not enough to take the better half of", [waiting(0, 1.0)], None),
    ("the better of two", [waiting(0, 2.0), waiting(1, 1.0)], 1),
    ("the better of two went on already", [waiting(0, 2.0), gone(1, 1.0)], None),
    ("of three only one, whoever comes last", [waiting(0, 2.0), gone(1, 1.0), waiting(2, 3.0)], None),
    ("of four two: the next best", [waiting(0, 2.0), gone(1, 1.0), waiting(2, 3.0), waiting(3, 4.0)], 0),
    ("one that is better than those that went on", [gone(0, 2.0), waiting(1, 3.0), waiting(2, 1.0)], 2),
    ("a tie goes to the earlier one", [waiting(0, 1.0), waiting(1, 1.0)], 0),
    ("NaN is the worst", [waiting(0, NAN), waiting(1, 99.0)], 1),
    ("NaN never goes on", [waiting(0, NAN), waiting(1, NAN)], None),
    ("one that failed on its way counts as the worst", [failed(0), waiting(1, 99.0)], 1),
    ("one that failed later counts with what it had", [failed(0, 1.0), waiting(1, 99.0)], None),
    ("one on its way to its first rung does not count", [gone(0), waiting(1, 99.0)], None),
    ("the higher rung first", [waiting(0, 3.0, 2.0), waiting(1, 3.0, 1.0), waiting(2, 1.0), waiting(3, 5.0)], 1),
    ("a lower rung where the higher has none", [waiting(0, 3.0, 2.0), waiting(1, 1.0), waiting(2, 5.0), waiting(3, 6.0)], 1),
]


class TestFindPromotable:
    @pytest.mark.parametrize(("why", "entrants", "number"), PROMOTIONS)
    def test_the_best_half_of_each_rung(self, why: str, entrants: list[Entrant], number: int | None) -> None:
        assert find_promotable(entrants, RUNGS, 2) == number, why

    @pytest.mark.parametrize(("reached", "promoted"), [(2, 0), (3, 1), (5, 1), (6, 2), (9, 3)])
    def test_one_of_each_reduction_factor(self, reached: int, promoted: int) -> None:
        entrants = [waiting(number, float(number)) for number in range(reached)]
        found = []
        while (number := find_promotable(entrants, RUNGS, 3)) is not None:
            found.append(number)
            entrants[number] = gone(number, float(number))
        assert found == list(range(promoted))

    def test_without_rungs_nobody_waits(self) -> None:
        assert find_promotable([Entrant(0), Entrant(1)], [], 2) is None


class TestFindLastHope:
    def test_the_best_of_the_highest_rung_where_one_waits(self) -> None:
        assert find_last_hope([waiting(0, 1.0), waiting(1, 5.0, 4.0)], RUNGS) == 1
        assert find_last_hope([waiting(0, 2.0), waiting(1, 1.0), failed(2, 3.0)], RUNGS) == 1
        assert find_last_hope([waiting(0, NAN), failed(1)], RUNGS) is None


class TestListRungs:
    @pytest.mark.parametrize(
        ("min_steps", "factor", "steps", "rungs"),
        [(10, 2, 40, [10, 20]), (10, 2, 41, [10, 20, 40]), (1, 3, 10, [1, 3, 9]), (10, 4, 10, []), (50, 2, 10, [])],
    )
    def test_below_the_jobs_own_end(self, min_steps: int, factor: int, steps: int, rungs: list[int]) -> None:
        assert list_rungs(min_steps, factor, steps) == rungs

    def test_ranks_by_loss_then_number(self) -> None:
        entrants = [waiting(0, 2.0), failed(1), waiting(2, 1.0), gone(3, 2.0), gone(4)]
        assert [each.number for each in rank_at(entrants, RUNGS, 0)] == [2, 0, 3, 1]

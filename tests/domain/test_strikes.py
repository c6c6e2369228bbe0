"""When jobs keep away from a machine: a table of strikes and what is decided."""

import pytest

from modelyard.domain.scheduling.strikes import Blow, Record, decide_exclusions

NOW = 1_000_000.0
HOUR = 3600.0
HALF_HOUR = 1800.0
TWO = {"bad": frozenset({"pretrain", "finetune"}), "good": frozenset({"pretrain", "finetune", "prepare"})}


def blows(*ages: float, host: str = "bad", jobs: int = 2) -> list[Blow]:
    """Strikes so many seconds ago, of so many jobs in turn."""
    return [Blow(host, f"job_{number % jobs}", "hang", NOW - age) for number, age in enumerate(ages)]


class TestCount:
    @pytest.mark.parametrize(
        ("struck", "excluded"),
        [
            pytest.param([], [], id="none"),
            pytest.param(blows(1, 2), [], id="two are too few"),
            pytest.param(blows(1, 2, 3), ["bad"], id="three of two jobs"),
            pytest.param(blows(1, 2, 3, 4, 5, 6, jobs=1), [], id="one job that fails everywhere"),
            pytest.param(blows(1, 2, HOUR + 1), [], id="one is too old"),
            pytest.param(blows(1, 2, HOUR - 1), ["bad"], id="within the hour"),
            pytest.param([*blows(1, 2), *blows(1, 2, host="good")], [], id="each machine by itself"),
            pytest.param(blows(1, 2, 3, host="gone"), [], id="one that serves nothing now"),
        ],
    )
    def test_strikes(self, struck: list[Blow], excluded: list[str]) -> None:
        assert [each.host for each in decide_exclusions(struck, {}, TWO, NOW)] == excluded


class TestLast:
    @pytest.mark.parametrize(
        ("serving", "excluded"),
        [
            pytest.param({"bad": TWO["bad"]}, [], id="the only machine"),
            pytest.param({"bad": TWO["bad"], "good": frozenset({"pretrain"})}, [], id="the only one for finetune"),
            pytest.param(TWO, ["bad"], id="others serve all its queues"),
        ],
    )
    def test_never_the_last_that_serves_a_queue(self, serving: dict[str, frozenset[str]], excluded: list[str]) -> None:
        assert [each.host for each in decide_exclusions(blows(1, 2, 3), {}, serving, NOW)] == excluded

    def test_of_two_bad_ones_one_stays(self) -> None:
        struck = [*blows(1, 2, 3, host="a"), *blows(1, 2, 3, host="b")]
        serving = dict.fromkeys("ab", frozenset({"pretrain"}))
        assert [each.host for each in decide_exclusions(struck, {}, serving, NOW)] == ["a"]


class TestLength:
    @pytest.mark.parametrize(
        ("record", "seconds"),
        [
            pytest.param(Record(), HALF_HOUR, id="first"),
            pytest.param(Record(NOW - 3 * HOUR - HALF_HOUR, NOW - 3 * HOUR), 2 * HALF_HOUR, id="recurs"),
            pytest.param(Record(NOW - 10 * HOUR, NOW - 6 * HOUR), 8 * HOUR, id="recurs again"),
            pytest.param(Record(NOW - 10 * HOUR, NOW - 2 * HOUR), 8 * HOUR, id="never longer than eight hours"),
            pytest.param(Record(NOW - 26 * HOUR, NOW - 25 * HOUR), HALF_HOUR, id="a day of peace"),
            pytest.param(Record(None, NOW - HOUR), HALF_HOUR, id="forgiven by an admin"),
        ],
    )
    def test_doubles_when_it_recurs(self, record: Record, seconds: float) -> None:
        decided = decide_exclusions(blows(1, 2, 3), {"bad": record}, TWO, NOW)
        assert [each.seconds for each in decided] == [seconds]

    def test_strikes_paid_for_do_not_count_again(self) -> None:
        record = Record(NOW - 40 * 60, NOW - 10)
        assert decide_exclusions(blows(11, 12, 13, 5, 6), {"bad": record}, TWO, NOW) == []
        assert len(decide_exclusions(blows(11, 12, 5, 6, 7), {"bad": record}, TWO, NOW)) == 1

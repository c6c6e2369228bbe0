"""Under kills, freezes, drains and a broker that forgets, every accepted job is done exactly once; and the loop can tell."""

from pathlib import Path

import pytest

from modelyard.cli.console import say
from tests.chaos.loop import Plan, run_loop
from tests.chaos.mutations import DIRECTED, MUTATIONS, ON_POSTGRESQL, copy_mutated, provoke


class TestMutations:
    @pytest.mark.parametrize("name", MUTATIONS)
    def test_the_code_they_change_is_there(self, name: str, tmp_path: Path) -> None:
        copy_mutated(MUTATIONS[name].edits, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestKillLoop:
    def test_nothing_is_lost_and_nothing_done_twice(self, tmp_path: Path) -> None:
        verdict = run_loop(Plan(seconds=150, seed=7), tmp_path / "cluster", say)
        say(f"{verdict.document()}")
        assert verdict.problems == []
        assert sum(verdict.injected.values()) > 20
        assert verdict.attempts > verdict.jobs, "nothing was ever lost: the loop did not bite"

    def test_what_provokes_the_mutations_does_the_platform_no_harm(self, tmp_path: Path) -> None:
        verdict = run_loop(DIRECTED, tmp_path / "cluster", say)
        say(f"{verdict.document()}")
        assert verdict.problems == []
        assert set(verdict.injected) == set(DIRECTED.injections)

    @pytest.mark.parametrize(("name", "database"), [*((name, "sqlite") for name in MUTATIONS), (ON_POSTGRESQL, "postgresql")])
    def test_it_fails_without(self, name: str, database: str, tmp_path: Path) -> None:
        rooms = copy_mutated(MUTATIONS[name].edits, tmp_path / "rooms")
        verdict = run_loop(provoke(MUTATIONS[name], rooms, database), tmp_path / "cluster", say)
        say(f"{verdict.document()}")
        noticed = [symptom for symptom in MUTATIONS[name].symptoms if symptom in str(verdict.problems)]
        assert noticed, f"the loop does not notice that there is {name}"

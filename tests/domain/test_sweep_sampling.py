"""Choosing parameters: within their ranges, the same from the same rows, better than chance."""

import math
import statistics
import subprocess
import sys

import pytest
from pydantic import TypeAdapter

from modelyard.domain.sweeps.sampling import Tried, propose
from modelyard.domain.sweeps.space import Parameter

SPACE = TypeAdapter(dict[str, Parameter]).validate_python(
    {
        "rate": {"type": "float", "low": 1e-5, "high": 1.0, "log": True},
        "layers": {"type": "int", "low": 2, "high": 8, "step": 2},
        "precision": {"type": "categorical", "choices": ["fp32", "bf16", None]},
    }
)
FAR_OFF = {"rate": 1e-5, "layers": 2, "precision": None}


def loss(rate: float) -> float:
    return abs(math.log10(rate) + 2)


def search(sampler: str, seed: int, trials: int = 30) -> list[Tried]:
    """Trials one after the other, each chosen by those before it."""
    tried: list[Tried] = []
    for _ in range(trials):
        chosen = propose(SPACE, sampler, True, seed, tried)
        tried.append(Tried(chosen, {40: loss(chosen["rate"])}, loss(chosen["rate"])))
    return tried


class TestPropose:
    @pytest.mark.parametrize("sampler", ["tpe", "random"])
    def test_within_the_ranges_and_the_same_again(self, sampler: str) -> None:
        found = search(sampler, 1, 12)
        assert found == search(sampler, 1, 12) != search(sampler, 2, 12)
        for each in found:
            assert 1e-5 <= each.parameters["rate"] <= 1.0
            assert each.parameters["layers"] in {2, 4, 6, 8}
            assert each.parameters["precision"] in {"fp32", "bf16", None}
        assert len({each.parameters["rate"] for each in found}) == 12

    def test_learns_where_good_ones_were(self) -> None:
        late = [each.value or 0.0 for seed in range(2) for each in search("tpe", seed)[10:]]
        by_chance = [each.value or 0.0 for seed in range(2) for each in search("random", seed)[10:]]
        assert statistics.mean(late) < statistics.mean(by_chance) * 0.75

    @pytest.mark.parametrize(
        "other",
        [
            Tried(FAR_OFF),
            Tried(FAR_OFF, {10: math.nan}),
            Tried(FAR_OFF, {10: 3.0}),
            Tried(FAR_OFF, {10: 3.0}, is_running=True),
            Tried(FAR_OFF, {10: 3.0, 40: math.nan}),
        ],
    )
    def test_takes_trials_in_every_state(self, other: Tried) -> None:
        assert propose(SPACE, "tpe", True, 1, [*search("tpe", 1, 11), other]).keys() == SPACE.keys()

    def test_only_choosing_imports_optuna(self) -> None:
        program = "import sys, modelyard.scheduler.loop; sys.exit('optuna' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0

"""The drift test: quiet when nothing drifts, loud when something does, and a p-value that means what it says."""

import numpy as np
import pytest

from modelyard.workers.monitoring.drift import embed, measure_drift

SUBJECTS = ["dog", "river", "engine", "violin", "planet", "garden", "harbour", "winter", "letter", "castle"]
VERBS = ["see", "paint", "build", "describe", "compare", "explain", "forget", "remember"]


def questions(seed: int, count: int) -> list[str]:
    """Draw questions independently from one source."""
    generator = np.random.default_rng(seed)
    return [
        f"How do I {generator.choice(VERBS)} a {generator.choice(SUBJECTS)} in {generator.choice(SUBJECTS)} time?"
        for _ in range(count)
    ]


def orders(seed: int, count: int) -> list[str]:
    """Draw texts from another source."""
    generator = np.random.default_rng(seed)
    return [f"Write SQL that joins table {generator.integers(99)} with {generator.integers(99)} by key" for _ in range(count)]


class TestMeasureDrift:
    def test_another_source_is_noticed(self) -> None:
        drift = measure_drift(orders(1, 40), questions(2, 200), permutations=200, seed=1)
        assert drift.p_value == pytest.approx(1 / 201)
        assert drift.is_drifting
        assert "differ" in drift.interpretation

    def test_a_part_from_another_source_is_noticed(self) -> None:
        mixed = [*questions(3, 30), *orders(4, 10)]
        assert measure_drift(mixed, questions(5, 200), permutations=200, seed=1).is_drifting

    def test_under_no_drift_p_is_uniform(self) -> None:
        values = [
            measure_drift(questions(2 * n, 25), questions(2 * n + 1, 50), permutations=39, seed=n).p_value for n in range(120)
        ]
        # Of 120 draws, 6 are expected at or below 0.05 and 60 at or below 0.5: bounds of about 3 standard deviations.
        assert sum(value <= 0.05 for value in values) <= 13
        assert 43 <= sum(value <= 0.5 for value in values) <= 77

    def test_random_splits_average_to_zero(self) -> None:
        permuted = np.array(measure_drift(questions(1, 25), questions(2, 30), permutations=3000, seed=1).permuted)
        assert abs(permuted.mean()) < 3 * permuted.std() / np.sqrt(len(permuted))
        assert permuted.min() < 0 < permuted.max()

    def test_discrepancy_is_the_estimator_of_the_paper(self) -> None:
        left, right = questions(1, 6), orders(2, 9)
        vectors = embed([*left, *right])
        apart = ((vectors[:, None] - vectors[None, :]) ** 2).sum(axis=-1)
        pairs = [apart[i, j] for i in range(15) for j in range(i + 1, 15)]
        kernel = np.exp(-apart / np.median(pairs))

        def mean(rows: range, columns: range) -> float:
            return float(np.mean([kernel[i, j] for i in rows for j in columns if i != j]))

        expected = mean(range(6), range(6)) + mean(range(6, 15), range(6, 15)) - 2 * mean(range(6), range(6, 15))
        assert measure_drift(left, right, permutations=1, seed=1).discrepancy == pytest.approx(expected)

    def test_large_sides_are_sampled_by_seed(self) -> None:
        first, again, other = (measure_drift(questions(1, 900), questions(2, 700), 20, seed) for seed in (4, 4, 5))
        assert (first.prompts, first.references) == (500, 500)
        assert first == again
        assert first.discrepancy != other.discrepancy

    def test_one_text_is_too_few(self) -> None:
        with pytest.raises(ValueError, match="2 or more texts"):
            measure_drift(["one"], questions(1, 5), 20, seed=1)


class TestEmbed:
    def test_rows_are_unit_vectors_and_the_same_words_are_near(self) -> None:
        vectors = embed(["The castle in winter", "the  CASTLE, in winter!", "SQL", ""])
        assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1, 0])
        assert vectors[0] @ vectors[1] == pytest.approx(1)
        assert vectors[0] @ vectors[2] < 0.1

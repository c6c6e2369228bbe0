"""Do two sets of texts come from the same source? Maximum mean discrepancy with a permutation test."""

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEATURES = 4096
"""Buckets n-grams are hashed into; collisions only blur the kernel a little, the test stays exact."""
GRAM_SIZES = (3, 4)
"""Characters: they see words, endings and spelling, and need no tokenizer and no language."""
MOST_TEXTS = 500
"""Texts drawn from each side: the kernel matrix grows with the square."""
ALPHA = 0.05

_WORDS = re.compile(r"\w+")

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Drift:
    """Result of the test."""

    discrepancy: float
    """Unbiased estimate of the squared MMD; around 0 (also below) when the sources are alike."""
    p_value: float
    """Share of permutations at least as far apart, the observed one included: never 0."""
    permuted: list[float]
    """The statistic under each permutation: what chance alone does."""
    prompts: int
    references: int

    @property
    def is_drifting(self) -> bool:
        """Whether chance is an unlikely explanation."""
        return self.p_value < ALPHA

    @property
    def interpretation(self) -> str:
        """Say in words what was found, and what it does not mean."""
        chance = f"if both came from one source, {self.p_value:.1%} of random splits would lie at least as far apart"
        if self.is_drifting:
            return f"The prompts differ from those the model was trained on: {chance}. Evaluate the model on recent prompts."
        return f"No drift was found: {chance}. With {self.prompts} prompts, a small drift can stay unseen."


def measure_drift(prompts: Sequence[str], references: Sequence[str], permutations: int, seed: int) -> Drift:
    """Test whether prompts and references have one source (Gretton et al. 2012, "A Kernel Two-Sample Test", JMLR 13).

    The kernel is the cosine of hashed character n-gram counts, through a Gaussian whose width is the median distance.
    The p-value holds if the prompts are independent of one another: one client repeating itself looks like drift.
    Raises `ValueError` with fewer than 2 texts on a side.
    """
    if min(len(prompts), len(references)) < 2:
        raise ValueError(f"drift needs 2 or more texts on each side, not {len(prompts)} and {len(references)}")
    generator = np.random.default_rng(seed)
    left, right = (_draw(texts, generator) for texts in (prompts, references))
    kernel = _gaussian_kernel(embed([*left, *right]))
    is_prompt = np.arange(len(kernel)) < len(left)
    observed = _squared_mmd(kernel, is_prompt)
    permuted = [_squared_mmd(kernel, generator.permutation(is_prompt)) for _ in range(permutations)]
    # Phipson & Smyth 2010: counting the observed split keeps the test exact. The tolerance is for sums in another order.
    p_value = (1 + sum(value >= observed - 1e-12 for value in permuted)) / (1 + permutations)
    return Drift(observed, p_value, permuted, len(left), len(right))


def embed(texts: Sequence[str]) -> Matrix:
    """Return unit vectors of hashed character n-gram counts: (texts, FEATURES). An empty text is the zero vector."""
    vectors = np.zeros((len(texts), FEATURES))
    for row, text in enumerate(texts):
        for gram, count in _grams(text).items():
            # Not hash(): it changes from process to process.
            vectors[row, zlib.crc32(gram.encode()) % FEATURES] += np.log1p(count)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths == 0, 1.0, lengths)


def _grams(text: str) -> Counter[str]:
    words = f" {' '.join(_WORDS.findall(text.lower()))} "
    return Counter(words[i : i + size] for size in GRAM_SIZES for i in range(len(words) - size + 1))


def _draw(texts: Sequence[str], generator: np.random.Generator) -> list[str]:
    if len(texts) <= MOST_TEXTS:
        return list(texts)
    return [texts[index] for index in generator.choice(len(texts), MOST_TEXTS, replace=False)]


def _gaussian_kernel(vectors: Matrix) -> Matrix:
    inner = vectors @ vectors.T
    norms = np.diag(inner)
    squared = np.maximum(norms[:, None] + norms[None, :] - 2 * inner, 0.0)
    width = float(np.median(squared[np.triu_indices(len(squared), k=1)])) or 1.0
    return np.exp(-squared / width)


def _squared_mmd(kernel: Matrix, is_prompt: NDArray[np.bool_]) -> float:
    """Unbiased: the diagonal, a text compared with itself, is left out."""
    left, right = is_prompt.astype(float), (~is_prompt).astype(float)
    m, n = left.sum(), right.sum()
    diagonal = np.diag(kernel)
    within_left = (left @ kernel @ left - diagonal @ left) / (m * (m - 1))
    within_right = (right @ kernel @ right - diagonal @ right) / (n * (n - 1))
    return float(within_left + within_right - 2 * (left @ kernel @ right) / (m * n))

"""Text metrics on cases worked out by hand."""

import pytest

from modelyard.workers.text_metrics import exact_match, rouge_l


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("The  cat.", "cat", 1.0),
        ("A dog!", "the DOG", 1.0),
        ("cats", "cat", 0.0),
        ("another", "other", 0.0),
        ("", "", 1.0),
    ],
)
def test_exact_match(answer: str, reference: str, expected: float) -> None:
    assert exact_match(answer, reference) == expected


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence() -> None:
    # Common subsequence "the cat sat" of 3 words: precision 3/4, recall 3/6.
    assert rouge_l("the cat now sat", "the black cat sat right here") == pytest.approx(2 * 0.75 * 0.5 / 1.25)


def test_rouge_l_of_nothing_is_zero() -> None:
    assert rouge_l("", "anything") == 0.0

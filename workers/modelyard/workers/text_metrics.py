"""How near a written answer comes to the reference: exact match and ROUGE-L."""

import re
import string
from functools import lru_cache
from typing import Any

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case without punctuation, articles and extra space, as SQuAD compares (Rajpurkar et al. 2016)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, reference: str) -> float:
    """Return 1.0 if both are the same after normalising, else 0.0."""
    return float(normalise(answer) == normalise(reference))


def rouge_l(answer: str, reference: str) -> float:
    """F-measure of the longest common subsequence of words, 0 to 1 (Lin 2004), with Porter stemming."""
    return float(_scorer().score(reference, answer)["rougeL"].fmeasure)


@lru_cache(maxsize=1)
def _scorer() -> Any:
    # Imported late: it brings NLTK along, which a server or a monitor does not need.
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)

"""Keys under which texts count as the same, and the hash that orders them."""

import hashlib
import re
import unicodedata

_SPACE = re.compile(r"\s+")
_NEITHER_LETTER_NOR_DIGIT = re.compile(r"[^\w]+|_+")


def strict_key(text: str) -> str:
    """Return the text without differences in case, spacing and Unicode form: equal keys are duplicates."""
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def loose_key(text: str) -> str:
    """Return only words and numbers, in order: equal keys must not be split between training and held-out.

    A text of signs only (`1 + 1` is not one) keeps them, else all such texts would be the same.
    """
    key = strict_key(text)
    return _NEITHER_LETTER_NOR_DIGIT.sub(" ", key).strip() or key


def digest(*parts: object) -> str:
    """Return a SHA-256 over the parts: the only source of order and chance here, so that content decides."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()

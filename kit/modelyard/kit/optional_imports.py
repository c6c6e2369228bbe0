"""Libraries that others use only if they are there."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(module: str) -> Iterator[None]:
    """Let imports within find no such module, for what takes it along without our using it. One imported before stays."""
    is_hidden = module not in sys.modules
    if is_hidden:
        sys.modules[module] = None  # type: ignore[assignment]  # the documented way to make an import of it fail
    try:
        yield
    finally:
        if is_hidden:
            del sys.modules[module]

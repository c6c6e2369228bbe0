"""The garbage collector, kept out of the way of a starting process."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """Collect no garbage while a process imports what it needs; what is there at the end is left out of later collections too.

    Nearly all of it stays for good. Looking through it again and again took a sixth of the API's start.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()

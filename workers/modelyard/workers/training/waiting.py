"""How long a step waited for its data."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass
class WaitClock:
    """Adds up the time until items are there."""

    seconds: float = 0.0

    def watch(self, items: Iterable[T]) -> Iterator[T]:
        """Pass items on; only the time spent on getting them counts."""
        remaining = iter(items)
        while True:
            began = time.perf_counter()
            try:
                item = next(remaining)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - began
            yield item

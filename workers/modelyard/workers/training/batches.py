"""The batches of a run in their order, each made ready while the one before it is worked on. Importing this imports torch."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType

import torch

from modelyard.workers.training.packed_rows import pack, take_part
from modelyard.workers.training.places import Place
from modelyard.workers.training.token_store import TokenStore, numbers_at
from modelyard.workers.training.trained_model import Batch


@dataclass(frozen=True)
class Order:
    """Which sequences a group of ranks reads in which step: the same sequences per step on any number of groups."""

    group: int
    groups: int
    """Of ranks that read the same ones together; of one rank each, unless ranks share sequences."""
    rounds: int
    micro_batch_size: int
    seed: int

    def numbers(self, step: int, round_: int, available: int) -> list[int]:
        """The numbers of one micro batch."""
        position = ((step * self.rounds + round_) * self.groups + self.group) * self.micro_batch_size
        return numbers_at(position, self.micro_batch_size, available, self.seed)


class Batches:
    """Reads ahead by one micro batch in a thread. Use as a context manager."""

    def __init__(self, store: TokenStore, order: Order, device: torch.device, place: Place, *, are_apart: bool) -> None:
        self._store, self._order, self._device, self._place, self._are_apart = store, order, device, place, are_apart
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ahead: tuple[int, int, Future[Batch]] | None = None

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._reader.shutdown(cancel_futures=True)

    def rows(self, step: int, rank: int | None) -> list[int]:
        """Return the numbers of the sequences that a rank reads in one step; None: all ranks."""
        groups = range(self._order.groups) if rank is None else [rank // self._place.parts]
        orders = [replace(self._order, group=each) for each in groups]
        rounds = range(self._order.rounds)
        return [number for order in orders for round_ in rounds for number in order.numbers(step, round_, len(self._store))]

    def of_step(self, step: int) -> Iterator[Batch]:
        """Yield the micro batches of this rank in one data step."""
        for round_ in range(self._order.rounds):
            if self._ahead is None or self._ahead[:2] != (step, round_):
                self._read_ahead(step, round_)
            assert self._ahead is not None
            batch = self._ahead[2].result()
            following = divmod(step * self._order.rounds + round_ + 1, self._order.rounds)
            self._read_ahead(*following)
            yield to_device(batch, self._device)

    def _read_ahead(self, step: int, round_: int) -> None:
        self._ahead = (step, round_, self._reader.submit(self._read, step, round_))

    def _read(self, step: int, round_: int) -> Batch:
        batch = pack(self._store, self._order.numbers(step, round_, len(self._store)), are_apart=self._are_apart)
        batch = take_part(batch, self._place)
        return pinned(batch) if self._device.type == "cuda" else batch


def pinned(batch: Batch) -> Batch:
    """Return the batch where a GPU can fetch it while it works."""
    positions = None if batch.positions is None else batch.positions.pin_memory()
    return replace(batch, tokens=batch.tokens.pin_memory(), positions=positions, targets=batch.targets.pin_memory())


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on a device."""
    if device.type == "cpu":
        return batch
    tokens, targets = (part.to(device, non_blocking=True) for part in (batch.tokens, batch.targets))
    positions = None if batch.positions is None else batch.positions.to(device, non_blocking=True)
    layout = batch.layout and replace(batch.layout, boundaries=batch.layout.boundaries.to(device, non_blocking=True))
    return replace(batch, tokens=tokens, positions=positions, targets=targets, layout=layout)

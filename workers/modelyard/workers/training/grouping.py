"""Which conversations share a sequence, and which sequences share a step: all of it follows from lengths and a seed."""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.workers.training.token_store import numbers_at

Group = list[int]
"""Numbers of conversations that go through the model together."""


def pack(lengths: Sequence[int], capacity: int) -> list[Group]:
    """Put conversations into as few sequences of `capacity` tokens as is easily done: best fit, longest first.

    Best-fit decreasing needs at most 11/9 of the fewest possible sequences (Johnson 1973), and about 1 % more of real
    lengths (Ding et al. 2024, arXiv:2404.10830). Every length must be within the capacity.
    """
    groups: list[Group] = []
    room: list[tuple[int, int]] = []  # (tokens left, group), sorted
    for number in sorted(range(len(lengths)), key=lambda each: (-lengths[each], each)):
        place = bisect_left(room, (lengths[number], -1))
        if place < len(room):
            left, group = room.pop(place)
        else:
            left, group = capacity, len(groups)
            groups.append([])
        groups[group].append(number)
        if left > lengths[number]:
            insort(room, (left - lengths[number], group))
    return groups


def group_by_length(lengths: Sequence[int], size: int) -> list[Group]:
    """Put `size` conversations of similar length together, so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda number: (lengths[number], number))
    return [order[start : start + size] for start in range(0, len(order), size)]


@dataclass(frozen=True)
class Course:
    """What each rank sees in each round of each step: a shuffled pass over the groups, then another one."""

    groups: list[Group]
    groups_per_batch: int
    rounds: int
    """Forward passes of a rank within one optimizer step."""
    ranks: int
    seed: int

    def batch(self, step: int, round_: int, rank: int) -> Group:
        """Return the conversations of one forward pass."""
        position = ((step * self.rounds + round_) * self.ranks + rank) * self.groups_per_batch
        numbers = numbers_at(position, self.groups_per_batch, len(self.groups), self.seed)
        return [conversation for number in numbers for conversation in self.groups[number]]

    def rows(self, step: int, rank: int | None) -> Group:
        """Return the conversations that a rank reads in one optimizer step; None: all ranks."""
        if rank is None:
            return self.step(step)
        return [number for round_ in range(self.rounds) for number in self.batch(step, round_, rank)]

    def step(self, step: int) -> Group:
        """Return the conversations of all ranks and rounds of one optimizer step."""
        size = self.rounds * self.ranks * self.groups_per_batch
        numbers = numbers_at(step * size, size, len(self.groups), self.seed)
        return [conversation for number in numbers for conversation in self.groups[number]]

"""Split rows into train and held-out so that nothing held out was also seen in training."""

from collections import Counter, defaultdict

from modelyard.workers.data.keys import digest, loose_key
from modelyard.workers.data.rows import Row, linking_parts, prompt_of
from modelyard.workers.recipe import BadData

BOILERPLATE_ROWS = 20
"""A paragraph in more rows than this is boilerplate: it says nothing about where a row came from."""


def split_rows(rows: list[Row], heldout_fraction: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Return (train, heldout), each in the order given.

    Rows with the same prompt or an overlapping passage form a group, and a group is never divided. Which groups are
    held out follows from a hash of seed and content, not from order. Raises `BadData` when there is one group only.
    """
    groups = group_rows(rows)
    members: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    # A group with most of the rows would leave nothing to train on.
    movable = [indexes for indexes in members.values() if len(indexes) * 2 <= len(rows)]
    if len(members) < 2 or not movable:
        raise BadData(
            f"the {len(rows)} rows left share one prompt or passage, so none can be held out without being trained on; "
            "add rows that differ"
        )
    movable.sort(key=lambda indexes: min(digest(seed, prompt_of(rows[index])) for index in indexes))
    count = min(max(1, round(heldout_fraction * len(members))), len(members) - 1)
    heldout = {index for indexes in movable[:count] for index in indexes}
    return (
        [row for index, row in enumerate(rows) if index not in heldout],
        [row for index, row in enumerate(rows) if index in heldout],
    )


def group_rows(rows: list[Row]) -> list[int]:
    """Return for each row the number of its group: rows joined, directly or through others, by a shared key."""
    prompts = [loose_key(prompt_of(row)) for row in rows]
    parts = [{loose_key(part) for part in linking_parts(row)} for row in rows]
    seen_in = Counter(part for shared in parts for part in shared)
    parents = list(range(len(rows)))
    first: dict[str, int] = {}
    for index, (prompt, shared) in enumerate(zip(prompts, parts, strict=True)):
        for key in [prompt, *sorted(part for part in shared if seen_in[part] <= BOILERPLATE_ROWS)]:
            other = first.setdefault(key, index)
            parents[_root(parents, index)] = _root(parents, other)
    return [_root(parents, index) for index in range(len(rows))]


def _root(parents: list[int], index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return index

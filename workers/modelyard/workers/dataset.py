"""The dataset folder all stages share: `train.jsonl`, `heldout.jsonl` and a `dataset.json` that describes them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.workers.recipe import BadData

DESCRIPTION = "dataset.json"
Message = dict[str, str]


@dataclass(frozen=True)
class PreparedDataset:
    """A dataset as `prepare` made it."""

    folder: Path
    schema: str
    """`text`: rows `{"text"}`. `chat`: rows `{"messages": [{"role", "content"}, …]}` that end with the assistant.
    `preference`: `{"messages", "chosen", "rejected"}`, the messages end with the user. `rated`: those of a chat and `label`.
    `problems`: `{"messages", "answer"}`, the messages end with the user."""

    def rows(self, split: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of `train` or `heldout` in their stored order. Raises `BadData` naming file and line."""
        path = self.folder / f"{split}.jsonl"
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise BadData(f"{path.name}, line {number}: not JSON ({error})") from error


def open_dataset(folder: Path, schema: str) -> PreparedDataset:
    """Open a prepared dataset of the schema a recipe needs. Raises `BadData` if it is another one, or not prepared."""
    found = read_description(folder).get("schema")
    if found is None:
        raise BadData("the dataset is an upload that was not prepared; run a `prepare` job on it and use its dataset")
    if found != schema:
        raise BadData(f"the dataset has schema `{found}`, but `{schema}` is needed; prepare it with `schema: {schema}`")
    return PreparedDataset(folder, schema)


def read_description(folder: Path) -> dict[str, Any]:
    """Return `dataset.json`. Raises `BadData` when the folder is no dataset."""
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadData(f"the dataset folder has no readable {DESCRIPTION}: {error}") from error
    if not isinstance(description, dict):
        raise BadData(f"{DESCRIPTION} holds {type(description).__name__}, not an object")
    return description


def split_completion(messages: list[Message]) -> tuple[list[Message], Message]:
    """Split a conversation into the prompt and the last assistant turn, the reference answer."""
    return messages[:-1], messages[-1]

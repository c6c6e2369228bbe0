"""Show a few rows as a recipe would tokenize them. A program of its own: chat templates from outside run here, within limits.

    python -m modelyard.workers.training.preview FOLDER

The folder holds the tokenizer's files and `request.json`; the answer goes to standard output.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

from modelyard.workers.recipe import BadData
from modelyard.workers.training.completions import IGNORED, tokenize_completions
from modelyard.workers.training.light_tokenizer import LightTokenizer

REQUEST = "request.json"
CPU_SECONDS = 20
MEMORY_BYTES = 4 * 2**30
ANY_LENGTH = 2**40


def main(folder: Path) -> None:
    """Answer the request in a folder: `{"rows": […]}`, or `{"error": …}` where the data cannot be tokenized."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    try:
        tokenizer = LightTokenizer(folder)
        answer: dict[str, Any] = {"rows": [_show(row, request, tokenizer) for row in request["rows"]]}
    except (BadData, MemoryError) as error:
        answer = {"error": str(error) or "the template or the row takes too much memory"}
    json.dump(answer, sys.stdout)


def _show(row: dict[str, Any], request: dict[str, Any], tokenizer: LightTokenizer) -> dict[str, Any]:
    """One row: how many tokens, how many before the answer; and unless only counted, each token within the sequence."""
    ids, labels = tokenize_row(row, tokenizer)
    prompt = next((place for place, label in enumerate(labels) if label != IGNORED), len(labels))
    shown: dict[str, Any] = {"count": len(ids), "prompt": prompt}
    if not request["counts_only"]:
        visible = list(zip(ids, labels, strict=True))[: request["sequence_length"]]
        shown["tokens"] = [[token, tokenizer.decode(token), label != IGNORED] for token, label in visible]
    return shown


def tokenize_row(row: dict[str, Any], tokenizer: LightTokenizer) -> tuple[list[int], list[int]]:
    """Ids and labels of a whole row by the recipes' rules: a text ends with an end token, of a conversation the answer counts."""
    if "messages" in row:
        (example,) = tokenize_completions([row], tokenizer, ANY_LENGTH).examples
        return example["input_ids"], example["labels"]
    (ids,) = tokenizer([row["text"]], add_special_tokens=False)["input_ids"]
    ids = ids if tokenizer.eos_token_id is None else [*ids, tokenizer.eos_token_id]
    # No token comes before the first, so nobody predicts it.
    return ids, [IGNORED, *ids[1:]]


if __name__ == "__main__":
    main(Path(sys.argv[1]))

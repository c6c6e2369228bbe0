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
from modelyard.workers.training.completions import LossOn, tokenize_completions
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
    answer: dict[str, Any]
    try:
        tokenizer = LightTokenizer(folder)
        tokenizer.chat_template = request.get("chat_template") or tokenizer.chat_template
        answer = {"rows": [_show(row, request, tokenizer) for row in request["rows"]]}
    except (BadData, MemoryError) as error:
        answer = {"error": str(error) or "the template or the row takes too much memory"}
    json.dump(answer, sys.stdout)


def _show(row: dict[str, Any], request: dict[str, Any], tokenizer: LightTokenizer) -> dict[str, Any]:
    """One row: how many tokens, how many before the first that is learned, how many of one sequence are; and these themselves."""
    ids, learned = tokenize_row(row, tokenizer, request.get("loss_on", "last_answer"))
    length = request["sequence_length"]
    prompt = next((place for place, is_learned in enumerate(learned) if is_learned), len(ids))
    shown: dict[str, Any] = {"count": len(ids), "prompt": prompt, "learned": sum(learned[:length])}
    if not request["counts_only"]:
        visible = zip(ids[:length], learned[:length], strict=True)
        shown["tokens"] = [[token, tokenizer.decode(token), is_learned] for token, is_learned in visible]
    return shown


def tokenize_row(row: dict[str, Any], tokenizer: LightTokenizer, loss_on: LossOn) -> tuple[list[int], list[bool]]:
    """Ids of a whole row by the recipes' rules, and which are learned: a text ends with an end token, and all of it counts."""
    if "messages" in row:
        examples = tokenize_completions([row], tokenizer, ANY_LENGTH, loss_on).examples
        ids, learned = (examples[0].tokens.tolist(), examples[0].learned.tolist()) if examples else ([], [])
    else:
        (ids,) = tokenizer([row["text"]], add_special_tokens=False)["input_ids"]
        ids = ids if tokenizer.eos_token_id is None else [*ids, tokenizer.eos_token_id]
        learned = [True] * len(ids)
    # No token comes before the first, so nobody predicts it.
    return ids, [False, *learned[1:]] if ids else []


if __name__ == "__main__":
    main(Path(sys.argv[1]))

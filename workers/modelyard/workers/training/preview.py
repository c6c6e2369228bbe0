"""Show a few rows as a recipe would tokenize them. A program of its own: chat templates from outside run here, within limits.

    python -m modelyard.workers.training.preview FOLDER

The folder holds the tokenizer's files and `request.json`; the answer goes to standard output.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

from modelyard.domain.specs import parse_spec
from modelyard.workers.recipe import BadData
from modelyard.workers.training.light_tokenizer import LightTokenizer
from modelyard.workers.training.previewed_rows import PreviewedRow, preview_rows

REQUEST = "request.json"
CPU_SECONDS = 20
MEMORY_BYTES = 4 * 2**30


def main(folder: Path) -> None:
    """Answer the request in a folder: `{"rows": […]}`, or `{"error": …}` where the data cannot be tokenized.

    The request: `spec`, `rows`, `counts_only`, and `answer`, which rewards are tried on instead of a problem's own.
    """
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    spec: Any = parse_spec(request["spec"])
    answer: dict[str, Any]
    try:
        tokenizer = LightTokenizer(folder)
        tokenizer.chat_template = getattr(spec, "chat_template", None) or tokenizer.chat_template
        rows = preview_rows(spec, request["rows"], tokenizer, request.get("answer"))
        answer = {"rows": [show(row, spec.sequence_length, tokenizer, request["counts_only"]) for row in rows]}
    except (BadData, MemoryError) as error:
        answer = {"error": str(error) or "the template or the row takes too much memory"}
    json.dump(answer, sys.stdout)


def show(row: PreviewedRow, length: int, tokenizer: LightTokenizer, counts_only: bool) -> dict[str, Any]:
    """Of each sequence how many tokens, how many before the first that is learned, how many are; and these themselves."""
    shown = []
    for each in row.sequences:
        learned = sum(each.learned[:length]) + row.sampled_tokens
        sequence: dict[str, Any] = {"count": len(each.ids), "prompt": each.prompt_tokens, "learned": learned}
        if not counts_only:
            visible = zip(each.ids[:length], each.learned[:length], strict=True)
            sequence["tokens"] = [[token, tokenizer.decode(token), is_learned] for token, is_learned in visible]
        shown.append(sequence)
    return {"sequences": shown, "dropped": row.is_dropped, "label": row.label, "rewarded": row.rewarded}


if __name__ == "__main__":
    main(Path(sys.argv[1]))

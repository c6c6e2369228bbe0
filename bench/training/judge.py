"""Held-out loss of a saved model, the same way for every subject: `python -m bench.training.judge GIVEN.json`.

Plain transformers, one text at a time, nothing packed: so it is nobody's own arithmetic.
"""

import json
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import torch


def main() -> None:
    """Load each model and write its loss."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    given = json.loads(Path(sys.argv[1]).read_text())
    found = {}
    for name, folder in given["models"].items():
        tokenizer = AutoTokenizer.from_pretrained(given["tokenizer"])
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        rows = map(json.loads, (Path(given["dataset"]) / "heldout.jsonl").open(encoding="utf-8"))
        texts = (_encode(row, tokenizer, given["sequence_length"]) for row in islice(rows, given["rows"]))
        found[name] = _mean_loss(model, list(texts))
    Path(given["found"]).write_text(json.dumps(found))


def _encode(row: dict[str, Any], tokenizer: Any, length: int) -> tuple[list[int], int]:
    """Return token ids, and how many at the beginning are not judged."""
    if "text" in row:
        return tokenizer(row["text"])["input_ids"][:length], 1
    messages = row["messages"]
    prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, whole)]
    return ids[1][:length], len(ids[0])


@torch.no_grad()
def _mean_loss(model: Any, texts: list[tuple[list[int], int]]) -> float:
    """Mean loss per judged token over all texts, in nats."""
    total, count = 0.0, 0
    for ids, skipped in texts:
        tokens = torch.tensor([ids])  # (1, sequence)
        logits = model(tokens).logits[0, skipped - 1 : -1].float()
        targets = tokens[0, skipped:]
        total += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
        count += len(targets)
    return total / count


if __name__ == "__main__":
    main()

"""Pre-training as transformers' `run_clm.py` does it: texts joined and cut into blocks, `Trainer` with its defaults."""

import json
import sys
from itertools import chain
from pathlib import Path
from typing import Any

from bench.training.stopwatch import Stopwatch


def main() -> None:
    """Train, save the model, then say what was seen."""
    given = json.loads(Path(sys.argv[1]).read_text())
    stopwatch = Stopwatch(Path(given["stopwatch"]))
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments, default_data_collator

    tokenizer = AutoTokenizer.from_pretrained(given["model"])
    model = AutoModelForCausalLM.from_pretrained(given["model"], dtype="float32")
    arguments = TrainingArguments(
        output_dir=given["scratch"], use_cpu=True, max_steps=given["steps"], per_device_train_batch_size=given["batch"],
        learning_rate=given["learning_rate"], weight_decay=0.1, adam_beta2=0.95, warmup_steps=given["warmup_steps"],
        lr_scheduler_type="cosine", logging_steps=10, save_strategy="no", report_to="none", disable_tqdm=True, seed=17,
    )  # fmt: skip
    blocks = read_blocks(Path(given["dataset"]), tokenizer, given["sequence_length"])
    trainer = Trainer(model=model, args=arguments, train_dataset=blocks, data_collator=default_data_collator)
    trainer.train()
    model.save_pretrained(given["keep_model"])
    tokenizer.save_pretrained(given["keep_model"])
    stopwatch.write()


def read_blocks(dataset: Path, tokenizer: Any, length: int) -> Any:
    """Return the training texts as blocks of so many tokens, parted by end tokens."""
    from datasets import Dataset

    texts = [json.loads(line)["text"] for line in (dataset / "train.jsonl").open(encoding="utf-8")]
    tokens = list(chain.from_iterable([*ids, tokenizer.eos_token_id] for ids in tokenizer(texts)["input_ids"]))
    rows = [tokens[start : start + length] for start in range(0, len(tokens) - length + 1, length)]
    return Dataset.from_dict({"input_ids": rows, "labels": rows})


if __name__ == "__main__":
    main()

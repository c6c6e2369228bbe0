"""Fine-tuning as TRL's `sft.py` does it: prompt and completion, all weights or LoRA by peft, `SFTTrainer` with its defaults."""

import json
import sys
from pathlib import Path
from typing import Any

from bench.training.stopwatch import Stopwatch


def main() -> None:
    """Train one pass, save the merged model, then say what was seen."""
    given = json.loads(Path(sys.argv[1]).read_text())
    stopwatch = Stopwatch(Path(given["stopwatch"]))
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(given["model"])
    model = AutoModelForCausalLM.from_pretrained(given["model"], dtype="float32")
    arguments = SFTConfig(
        output_dir=given["scratch"], use_cpu=True, bf16=False, num_train_epochs=1, save_strategy="no", report_to="none",
        per_device_train_batch_size=given["batch"], learning_rate=given["learning_rate"], lr_scheduler_type="cosine",
        warmup_steps=given["warmup_steps"], max_length=given["sequence_length"], packing=given["packing"],
        gradient_checkpointing=False, disable_tqdm=True, logging_steps=1, seed=17,
    )  # fmt: skip
    adapter = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapter = adapter if given["method"] == "lora" else None
    rows = Dataset.from_list([_split(json.loads(line)) for line in (Path(given["dataset"]) / "train.jsonl").open()])
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer, peft_config=adapter)
    trainer.train()
    trained = trainer.model.merge_and_unload() if adapter else trainer.model
    trained.save_pretrained(given["keep_model"])
    stopwatch.write()


def _split(row: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}


if __name__ == "__main__":
    main()

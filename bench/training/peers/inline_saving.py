"""A plain DeepSpeed loop that calls `save_checkpoint` in line, as DeepSpeed's documentation shows it."""

import json
import os
import random
import sys
from pathlib import Path

from bench.training.stopwatch import Stopwatch


def main() -> None:
    """Train on random tokens, save every so many steps, then say what was seen."""
    given = json.loads(Path(sys.argv[1]).read_text())
    stopwatch = Stopwatch(Path(given["stopwatch"]))
    os.environ.update(DS_ACCELERATOR="cpu", RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1")
    os.environ["MASTER_PORT"] = str(random.randrange(20_000, 60_000))
    import deepspeed
    import deepspeed.ops
    import torch
    from transformers import AutoModelForCausalLM

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    model = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32).train()
    config = {
        "train_micro_batch_size_per_gpu": given["batch"],
        "gradient_clipping": 1.0,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
        "steps_per_print": 2**31,
    }
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
    for step in range(1, given["steps"] + 1):
        batch = torch.randint(model.config.vocab_size, (given["batch"], given["sequence_length"]))  # (batch, sequence)
        engine.backward(engine(input_ids=batch, labels=batch).loss)
        engine.step()
        if step % given["save_every"] == 0:
            engine.save_checkpoint(given["scratch"], tag=f"step-{step}")
    stopwatch.write()


if __name__ == "__main__":
    main()

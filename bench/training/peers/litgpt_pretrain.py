"""Pre-training by LitGPT's own `pretrain`, in an environment of its own: same shape and token blocks, other random weights."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from litgpt import Config
from litgpt.args import EvalArgs, TrainArgs
from litgpt.data import DataModule
from litgpt.pretrain import setup
from torch.utils.data import DataLoader

from bench.training.stopwatch import Stopwatch


class Blocks(DataModule):
    """Token blocks from a file, one token longer than a sequence, as LitGPT's loop wants them."""

    def __init__(self, file: Path) -> None:
        self.blocks = torch.from_numpy(np.load(file))  # (blocks, sequence + 1)
        self.batch_size = 1

    def connect(self, tokenizer: Any = None, batch_size: int = 1, max_seq_length: int | None = None, **_: Any) -> None:
        """Learn the batch size."""
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled blocks."""
        return DataLoader(self.blocks, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """One batch: LitGPT validates before it begins."""
        return DataLoader(self.blocks[: self.batch_size], batch_size=self.batch_size)


def main() -> None:
    """Train, then say what was seen."""
    given = json.loads(Path(sys.argv[1]).read_text())
    stopwatch = Stopwatch(Path(given["stopwatch"]))
    length, batch, shape = given["sequence_length"], given["batch"], given["shape"]
    config = Config(
        name="bench", block_size=length, vocab_size=given["vocabulary_size"], padded_vocab_size=given["vocabulary_size"],
        n_layer=shape["layers"], n_head=shape["heads"], n_query_groups=shape["key_value_heads"], n_embd=shape["hidden_size"],
        intermediate_size=shape["intermediate_size"], rotary_percentage=1.0, parallel_residual=False, bias=False,
        norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP",
    )  # fmt: skip
    train = TrainArgs(
        save_interval=10**9, log_interval=10, global_batch_size=batch, micro_batch_size=batch, max_seq_length=length,
        max_tokens=given["steps"] * batch * length, max_norm=1.0, min_lr=0.0, lr_warmup_steps=2, tie_embeddings=True,
    )  # fmt: skip
    setup(
        "bench", model_config=config, out_dir=Path(given["scratch"], "out"), precision="32-true", train=train,
        data=Blocks(Path(given["blocks"])), eval=EvalArgs(interval=10**9, max_iters=1), devices=1, logger_name="csv",
        optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": given["learning_rate"], "betas": [0.9, 0.95]}},
    )  # fmt: skip
    stopwatch.write()


if __name__ == "__main__":
    main()

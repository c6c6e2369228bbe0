"""How long training stands still for a checkpoint: saved in the background, and by DeepSpeed's `save_checkpoint` in line.

python -m bench.training.checkpoint_stall --preset 135M --rounds 5

One process, one rank, the machine's CPU. Both save the same engine in turn; in line is `save_checkpoint`, then the manifest
(digests, fsync), as it has to be before a checkpoint counts as whole.
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from bench.measurement import Figures, compare, print_table, write_results
from modelyard.domain.specs import parse_spec
from modelyard.kit.storage import build_manifest
from modelyard.workers.recipe import Run
from modelyard.workers.training.checkpoints import Progress
from modelyard.workers.training.distributed import join_ranks

SEQUENCE = 128
STEPS_BETWEEN = 4


def main() -> None:
    """Measure and write `bench/results/checkpoint_stall.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="135M")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as folder:
        figures, parameters = measure(arguments.preset, arguments.rounds, Path(folder))
    row = compare(
        "stall of training per checkpoint", "stall_seconds", "s", figures, "background", "in line", "≥ 10×", more_is_better=False
    )
    quiet = compare(
        "a step while a checkpoint is written", "step_seconds", "s", figures, "background", "in line", more_is_better=False
    )
    notes = [f"{parameters / 1e6:.0f} M parameters, fp32, AdamW, stage 0, one rank; `in line`: save_checkpoint and manifest"]
    print_table([row, quiet])
    write_results("checkpoint_stall", [row, quiet], notes)


def measure(preset: str, rounds: int, folder: Path) -> tuple[dict[str, Figures], int]:
    """Save by both ways in turn; return what each round took, and the size of the model."""
    from modelyard.workers.training.saving import Saver

    spec = parse_spec({"kind": "pretrain", "name": "stall", "dataset": "none", "preset": preset, "sequence_length": SEQUENCE})
    run = Run(spec=spec, folder=folder, inputs={})
    join_ranks(run)
    engine = _start(run)
    plain, figures = engine.checkpoint_engine, {"background": Figures(), "in line": Figures()}
    with Saver(run, engine) as saver:
        background = engine.checkpoint_engine
        _step(engine)
        saver.save(Progress(step=0), loss=0.0)  # makes the buffers, once
        for number in range(1, rounds + 1):
            saver.wait()
            began = time.monotonic()
            saver.save(Progress(step=number), loss=0.0)
            stall = time.monotonic() - began
            figures["background"].add({"stall_seconds": stall, "step_seconds": _mean_step(engine)})
            saver.wait()
            engine.checkpoint_engine = plain
            stall = _save_in_line(engine, folder / "in-line")
            engine.checkpoint_engine = background
            figures["in line"].add({"stall_seconds": stall, "step_seconds": _mean_step(engine)})
            print(f"round {number}: {figures['background'].values['stall_seconds'][-1]:.3f} s, in line {stall:.3f} s")
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return figures, sum(parameter.numel() for parameter in engine.module.parameters())


def _start(run: Run[Any]) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    from modelyard.workers.training.engine import start_engine

    size = run.spec.shape()
    config = LlamaConfig(
        vocab_size=run.spec.tokens_to_train(), hidden_size=size.hidden_size, intermediate_size=size.intermediate_size,
        num_hidden_layers=size.layers, num_attention_heads=size.heads, num_key_value_heads=size.key_value_heads,
        tie_word_embeddings=size.tied_embeddings, use_cache=False,
    )  # fmt: skip
    return start_engine(run, LlamaForCausalLM(config))


def _step(engine: Any) -> float:
    from modelyard.workers.training.trained_model import Batch

    began = time.monotonic()
    tokens = torch.randint(0, 4096, (1, SEQUENCE))
    loss = engine(Batch(tokens, None, tokens.roll(-1, dims=1), None))
    engine.backward(loss)
    engine.step()
    return time.monotonic() - began


def _mean_step(engine: Any) -> float:
    return sum(_step(engine) for _ in range(STEPS_BETWEEN)) / STEPS_BETWEEN


def _save_in_line(engine: Any, folder: Path) -> float:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.sync()
    began = time.monotonic()
    engine.save_checkpoint(str(folder), tag="state")
    build_manifest(folder)
    return time.monotonic() - began


if __name__ == "__main__":
    main()

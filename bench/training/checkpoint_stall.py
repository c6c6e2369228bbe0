"""How long training stands still for a checkpoint: saved in the background, and by DeepSpeed's `save_checkpoint` in line.

    python -m bench.training.checkpoint_stall GIVEN.json

Given: `preset`, `rounds`. One process, one rank, one engine, saved both ways in turn; in line is `save_checkpoint`, then the
manifest (digests, fsync), as it has to be before a checkpoint counts as whole.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch

from bench.training.stopwatch import Stopwatch
from modelyard.domain.specs import parse_spec
from modelyard.kit.storage import build_manifest
from modelyard.workers.recipe import Run
from modelyard.workers.training.checkpoints import Progress
from modelyard.workers.training.distributed import join_ranks

SEQUENCE = 128
STEPS_BETWEEN = 4


def main() -> None:
    """Measure, then say what was seen: of each round a stall and the mean of the steps after it, in seconds."""
    given = json.loads(Path(sys.argv[1]).read_text())
    stopwatch = Stopwatch(Path(given["stopwatch"]))
    background, in_line = measure(given["preset"], given["rounds"], Path(given["scratch"]))
    stopwatch.write(background=background, in_line=in_line)


def measure(preset: str, rounds: int, folder: Path) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Save by both ways in turn; return what each round took in the background and in line."""
    from modelyard.workers.training.saving import Saver

    spec = parse_spec({"kind": "pretrain", "name": "stall", "dataset": "none", "preset": preset, "sequence_length": SEQUENCE})
    run = Run(spec=spec, folder=folder, inputs={})
    join_ranks(run)
    engine = _start(run)
    plain, background, in_line = engine.checkpoint_engine, list[dict[str, float]](), list[dict[str, float]]()
    with Saver(run, engine) as saver:
        copying = engine.checkpoint_engine
        _step(engine)
        saver.save(Progress(step=0), loss=0.0)  # makes the buffers, once
        for number in range(1, rounds + 1):
            saver.wait()
            began = time.monotonic()
            saver.save(Progress(step=number), loss=0.0)
            stall = time.monotonic() - began
            background.append({"stall": stall, "step": _mean_step(engine)})
            saver.wait()
            engine.checkpoint_engine = plain
            stall = _save_in_line(engine, folder / "in-line")
            engine.checkpoint_engine = copying
            in_line.append({"stall": stall, "step": _mean_step(engine)})
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return background, in_line


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

"""Pre-training: Modelyard's recipe beside a bare `transformers.Trainer` script and LitGPT, on the same texts.

Trainer begins from the same weights; LitGPT from random ones of its own, and its model is not judged.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench.environments import python_of
from bench.measurement import Figures, Row, compare, interleave
from bench.training.judging import judge
from bench.training.material import new_model, size_of, texts, texts_with_few_heldout
from bench.training.subjects import Watched, run_program

PEAK_RATE = 1e-3
OWN, APART, COMPILED = "Modelyard", "Modelyard, texts apart", "Modelyard, layers compiled"
TRAINER = "Trainer"


@dataclass(frozen=True)
class Size:
    """A model and how much it is trained."""

    preset: str
    sequence_length: int
    batch: int
    steps: int
    target: str
    heldout_rows: int = 64
    """What Modelyard validates with, before the first step and after the last; the others do not."""


SIZES = {
    "0.1M": Size("0.1M", 64, 4, 300, "≥ 1.5"),
    # In fp32 its matrix products alone are half of Trainer's step, so no program could be twice as fast.
    "5M": Size("5M", 128, 4, 60, "≥ 1.5"),
    "135M": Size("135M", 256, 1, 8, "≥ 1.05", heldout_rows=4),
}
QUICK_STEPS = {"0.1M": 60, "5M": 8, "135M": 3}


def measure(name: str, rounds: int, is_quick: bool, peers: bool = True) -> list[Row]:
    """Tokens per CPU-second, tokens/s, peak memory, time to the first step and held-out loss at one size."""
    size = replace(SIZES[name], steps=QUICK_STEPS[name]) if is_quick else SIZES[name]
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as made:
        scratch = Path(made)
        subjects: dict[str, Callable[[], Mapping[str, float]]] = {
            OWN: lambda: _run_own(size, scratch, OWN),
            APART: lambda: _run_own(size, scratch, APART, documents="apart"),
            COMPILED: lambda: _run_own(size, scratch, COMPILED, compile="on"),
        }
        if peers:
            subjects[TRAINER] = lambda: _run_trainer(size, scratch)
            subjects["LitGPT"] = lambda: _run_litgpt(size, scratch)
        figures = interleave(subjects, rounds)
    return rows_of(figures, size.preset, size.target)


def rows_of(figures: Mapping[str, Figures], label: str, target: str) -> list[Row]:
    """The rows of one size: Modelyard, as it does the same work, beside each other subject; compiled, beside Trainer."""
    metrics = (
        ("tokens per CPU-second", "tokens/CPU-s", "tokens_per_cpu_second", True, target),
        ("tokens per second", "tokens/s", "tokens_per_second", True, ""),
        ("peak memory", "MiB", "peak_memory", False, ""),
        ("start of the process to first step", "s", "first_step", False, ""),
        ("start of the process to first step, CPU", "CPU-s", "first_step_cpu", False, ""),
        ("held-out loss after the same tokens", "nats", "heldout_loss", False, ""),
    )
    pairs: list[tuple[str, str | None]] = [(OWN, name) for name in figures if name != OWN] or [(OWN, None)]
    if {COMPILED, TRAINER} <= figures.keys():
        pairs.append((COMPILED, TRAINER))
    return [
        compare(
            f"pretrain {label}: {name}{own.removeprefix(OWN)}",
            key,
            unit,
            figures,
            own,
            other,
            goal if other == TRAINER else "",
            more,
        )
        for own, other in pairs
        for name, unit, key, more, goal in metrics
        if other is None or key in figures[other].values
    ]


def _run_own(size: Size, scratch: Path, name: str, **choices: str) -> dict[str, float]:
    keep = scratch / name
    spec = {
        "kind": "pretrain", "name": "bench", "dataset": "plays", "model": "new", "documents": "joined", **choices,
        "sequence_length": size.sequence_length, "micro_batch_size": size.batch, "steps": size.steps,
        "evaluate_every": size.steps, "save_every": size.steps, "seed": 17,
        "optimizer": {"learning_rate": PEAK_RATE, "warmup_ratio": 0.1, "floor": 0.0},
    }  # fmt: skip
    dataset = texts_with_few_heldout(size.heldout_rows)
    inputs = {"model": {"path": str(new_model(size.preset))}, "dataset": {"path": str(dataset)}}
    given = {"recipe": "pretrain", "spec": spec, "inputs": inputs, "keep_model": str(keep)}
    return _figures(size, run_program("recipe_run", given), keep)


def _run_trainer(size: Size, scratch: Path) -> dict[str, float]:
    keep = scratch / "trainer"
    given = {
        "model": str(new_model(size.preset)), "dataset": str(texts()), "steps": size.steps, "batch": size.batch,
        "sequence_length": size.sequence_length, "learning_rate": PEAK_RATE, "keep_model": str(keep),
        "warmup_steps": round(0.1 * size.steps),
    }  # fmt: skip
    return _figures(size, run_program("peers.trainer_pretrain", given), keep)


def _run_litgpt(size: Size, scratch: Path) -> dict[str, float]:
    preset = size_of(size.preset)
    blocks = scratch / "blocks.npy"
    if not blocks.exists():
        _write_blocks(size, blocks)
    given = {
        "blocks": str(blocks), "steps": size.steps, "batch": size.batch, "sequence_length": size.sequence_length,
        "learning_rate": PEAK_RATE, "shape": preset.architecture.model_dump(), "vocabulary_size": preset.vocabulary_size,
    }  # fmt: skip
    return _speed(size, run_program("peers.litgpt_pretrain", given, python_of("litgpt")))


def _write_blocks(size: Size, file: Path) -> None:
    """The training texts as token blocks, one token longer than a sequence."""
    import numpy as np
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(new_model(size.preset))
    wanted = 2 * size.steps * size.batch * (size.sequence_length + 1)
    tokens: list[int] = []
    for line in (texts() / "train.jsonl").open(encoding="utf-8"):
        tokens += [*tokenizer(json.loads(line)["text"])["input_ids"], tokenizer.eos_token_id]
        if len(tokens) >= wanted:
            break
    np.save(file, np.array(tokens[:wanted]).reshape(-1, size.sequence_length + 1))


def _figures(size: Size, watched: Watched, model: Path) -> dict[str, float]:
    loss = judge(model, new_model(size.preset), texts(), size.sequence_length)
    return {**_speed(size, watched), "heldout_loss": loss}


def _speed(size: Size, watched: Watched) -> dict[str, float]:
    wall, cpu, steps = watched.seconds_of_steps()
    tokens = steps * size.batch * size.sequence_length
    first_wall, first_cpu = watched.first_step()
    return {
        "tokens_per_cpu_second": tokens / cpu,
        "tokens_per_second": tokens / wall,
        "peak_memory": watched.peak_memory_mib,
        "first_step": first_wall,
        "first_step_cpu": first_cpu,
    }

"""Fine-tuning on conversations of skewed lengths: Modelyard's recipe beside TRL's SFTTrainer, unpacked and packed.

Every subject passes once over the same conversations from the same weights: all weights of a new 5M, LoRA rank 8 on SmolLM2.
Three of four are pairs of chatterbot-corpus (some 30 tokens), the fourth asks for a passage of a play (60 to 420, log-uniform):
see `material`. Unpacked batches hold as many conversations as a packed sequence does on average, so all make about as many steps.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from bench.measurement import Figures, Row, compare, interleave, say
from bench.training.conversation_budget import Budget, count_budget
from bench.training.judging import judge
from bench.training.material import conversations, new_model, smollm2
from bench.training.subjects import Watched, run_program

UNPACKED, PACKED = "TRL unpacked", "TRL packed"
HELDOUT = 32


@dataclass(frozen=True)
class Task:
    """A model and how many conversations it passes over."""

    label: str
    method: str
    model: Callable[[], Path]
    conversations: int
    sequence_length: int
    sequences_per_batch: int
    learning_rate: float


SMALL = Task("5M", "full", lambda: new_model("5M"), 300, 512, 4, 1e-3)
LARGE = Task("SmolLM2-135M", "lora", smollm2, 48, 512, 1, 5e-4)


TASKS = {"5M": SMALL, "135M": LARGE}


def measure(name: str, rounds: int, is_quick: bool, peers: bool = True) -> list[Row]:
    """Tokens per CPU-second, tokens/s, peak memory, time to the first step and held-out loss for one model."""
    task = TASKS[name]
    if is_quick:
        task = replace(task, conversations=task.conversations * 2 // 5, sequences_per_batch=max(1, task.sequences_per_batch // 2))
    return _measure_task(task, rounds, peers)


def _measure_task(task: Task, rounds: int, peers: bool) -> list[Row]:
    dataset = conversations(task.conversations, HELDOUT)
    budget = count_budget(dataset, task.model(), task.sequence_length)
    say(f"  {budget}")
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as made:
        keep = Path(made) / "model"
        subjects: dict[str, Callable[[], Mapping[str, float]]] = {"Modelyard": lambda: _run_own(task, dataset, budget, keep)}
        if peers:
            subjects[UNPACKED] = lambda: _run_trl(task, dataset, budget, keep, packing=False)
            subjects[PACKED] = lambda: _run_trl(task, dataset, budget, keep, packing=True)
        return _rows(interleave(subjects, rounds), f"{task.label} {task.method}")


def _rows(figures: Mapping[str, Figures], label: str) -> list[Row]:
    goals = {UNPACKED: "≥ 2", PACKED: "≥ 1.0"}
    metrics = (
        ("tokens per CPU-second", "tokens/CPU-s", "tokens_per_cpu_second", True),
        ("tokens per second", "tokens/s", "tokens_per_second", True),
        ("peak memory", "MiB", "peak_memory", False),
        ("start of the process to first step", "s", "first_step", False),
        ("start of the process to first step, CPU", "CPU-s", "first_step_cpu", False),
        ("held-out loss after one pass", "nats", "heldout_loss", False),
    )
    others = [name for name in figures if name != "Modelyard"] or [None]
    return [
        compare(f"finetune {label}: {name}", key, unit, figures, "Modelyard", other, goal, more)
        for other in others
        for name, unit, key, more in metrics
        for goal in (goals.get(other or "", "") if key == "tokens_per_cpu_second" else "",)
    ]


def _run_own(task: Task, dataset: Path, budget: Budget, keep: Path) -> dict[str, float]:
    steps = ceil(budget.sequences / task.sequences_per_batch)
    spec = {
        "kind": "finetune", "name": "bench", "dataset": "chats", "model": "base", "method": task.method,
        "sequence_length": task.sequence_length, "micro_batch_size": task.sequences_per_batch, "steps": steps,
        "evaluate_every": steps, "save_every": steps, "seed": 17,
        "optimizer": {"learning_rate": task.learning_rate, "weight_decay": 0.0, "warmup_ratio": 0.05},
    }  # fmt: skip
    inputs = {"model": {"path": str(task.model())}, "dataset": {"path": str(dataset)}}
    given = {"recipe": "sft", "spec": spec, "inputs": inputs, "keep_model": str(keep)}
    return _figures(task, dataset, budget, run_program("recipe_run", given), keep)


def _run_trl(task: Task, dataset: Path, budget: Budget, keep: Path, *, packing: bool) -> dict[str, float]:
    batch = task.sequences_per_batch * (1 if packing else budget.conversations_per_sequence())
    steps = ceil(budget.sequences / task.sequences_per_batch)
    given = {
        "model": str(task.model()), "dataset": str(dataset), "batch": batch, "packing": packing, "method": task.method,
        "keep_model": str(keep),
        "sequence_length": task.sequence_length, "learning_rate": task.learning_rate, "warmup_steps": round(0.05 * steps),
    }  # fmt: skip
    return _figures(task, dataset, budget, run_program("peers.trl_finetune", given), keep)


def _figures(task: Task, dataset: Path, budget: Budget, watched: Watched, model: Path) -> dict[str, float]:
    # Steps differ in tokens, the whole pass does not.
    wall, cpu, steps = watched.seconds_of_steps(skipped=0)
    first_wall, first_cpu = watched.first_step()
    return {
        "tokens_per_cpu_second": budget.tokens / cpu,
        "tokens_per_second": budget.tokens / wall,
        "peak_memory": watched.peak_memory_mib,
        "first_step": first_wall,
        "first_step_cpu": first_cpu,
        "steps": steps,
        "heldout_loss": judge(model, task.model(), dataset, task.sequence_length, HELDOUT),
    }

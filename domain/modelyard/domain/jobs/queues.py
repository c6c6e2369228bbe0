"""Queue names: a stage and a shape. `finetune` is one slot; `finetune.2slot`, `finetune.2gpu`, `pretrain.4x8gpu` need more."""

import re
from dataclasses import dataclass
from functools import cache

from modelyard.domain.specs.registry import KINDS, STAGES

ACCELERATORS = ("any", "gpu", "cpu")
_UNITS = {"any": "slot", "gpu": "gpu", "cpu": "cpu"}
_NAME = re.compile(r"(?P<stage>[a-z]+)(\.((?P<nodes>\d+)x)?(?P<slots>\d+)(?P<unit>slot|gpu|cpu))?")


@dataclass(frozen=True)
class Shape:
    """What a job needs at once: slots of one accelerator on each of some nodes."""

    slots: int = 1
    accelerator: str = "any"
    """`gpu`, `cpu`, or `any`: a GPU where the worker has one free, a CPU share elsewhere."""
    nodes: int = 1


@cache
def queue_name(stage: str, shape: Shape) -> str:
    """The queue where jobs of a stage and shape wait."""
    if shape == default_shape(stage):
        return stage
    nodes = f"{shape.nodes}x" if shape.nodes > 1 else ""
    return f"{stage}.{nodes}{shape.slots}{_UNITS[shape.accelerator]}"


def parse_queue(name: str) -> tuple[str, Shape]:
    """The stage and shape a queue name stands for. Raises `ValueError` for any other name."""
    match = _NAME.fullmatch(name)
    if match is None or match["stage"] not in STAGES:
        raise ValueError(f"{name!r} is not a queue of this platform")
    if match["slots"] is None:
        return match["stage"], default_shape(match["stage"])
    accelerator = next(key for key, unit in _UNITS.items() if unit == match["unit"])
    return match["stage"], Shape(int(match["slots"]), accelerator, int(match["nodes"] or 1))


def is_gang_queue(name: str) -> bool:
    """Whether the jobs of a queue need several workers at once; False for names of others."""
    try:
        return parse_queue(name)[1].nodes > 1
    except ValueError:
        return False


def queues_of_worker(stages: list[str], cpu_slots: int, gpus: int) -> list[str]:
    """Every queue a worker could ever serve, by its stages and slots."""
    return [queue_name(stage, shape) for stage in stages for shape in _shapes(stage, cpu_slots, gpus)]


def _shapes(stage: str, cpu_slots: int, gpus: int) -> list[Shape]:
    is_distributed = any(kind.is_distributed for kind in KINDS.values() if kind.stage == stage)
    shapes = [Shape(count, effective_accelerator(stage, "any")) for count in range(1, max(cpu_slots, gpus) + 1)]
    shapes += [Shape(count, "gpu") for count in range(1, gpus + 1)]
    shapes += [Shape(count, "cpu") for count in range(1, cpu_slots + 1)]
    served = [shape for shape in shapes if shape.accelerator != "cpu" or shape.slots <= cpu_slots]
    return list(dict.fromkeys(shape for shape in served if is_distributed or shape.slots == 1))


def default_shape(stage: str) -> Shape:
    """One slot of whatever the stage can use: what a queue named like the stage alone stands for."""
    return Shape(1, effective_accelerator(stage, "any"))


@cache
def effective_accelerator(stage: str, accelerator: str) -> str:
    """`any` means CPU for stages that cannot use a GPU, so that they never occupy one."""
    wants_gpu = any(kind.wants_gpu for kind in KINDS.values() if kind.stage == stage)
    return "cpu" if accelerator == "any" and not wants_gpu else accelerator

"""The environment of a rank: what `torchrun` would set, who may use which device, and none of the platform's secrets."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SECRETS = ("MODELYARD_DATABASE_URL", "MODELYARD_REDIS_URL", "MODELYARD_API_KEY", "MODELYARD_FLOWER_", "AWS_", "PG")
"""Beginnings of the names of variables a recipe has no use for."""


@dataclass(frozen=True)
class Group:
    """Where the ranks of this machine stand among all ranks of a job, and where all of them meet."""

    nodes: int = 1
    node_rank: int = 0
    address: str = "127.0.0.1"
    port: int | None = None
    """None: a free one of this machine."""


@dataclass(frozen=True)
class Launch:
    """Everything needed to start the ranks of one attempt."""

    module: str
    folder: Path
    slots: tuple[str, ...]
    """`cpu-0`, `gpu-3`, … one rank each."""
    descriptors: tuple[int, ...]
    """Open files every rank inherits: the slots' locks, and the attempt's sign of life."""
    cache: Path
    is_online: bool = False
    """Whether the recipe may fetch from the model hub."""
    group: Group = Group()


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """What a recipe may know of an environment."""
    return {name: value for name, value in environment.items() if not name.startswith(SECRETS)}


def environment_of(launch: Launch, rank: int, port: int) -> dict[str, str]:
    """The environment of one rank, made from this process's own."""
    on_gpu = launch.slots[0].startswith("gpu")
    kept = without_secrets(os.environ)
    return {
        **kept,
        "RANK": str(launch.group.node_rank * len(launch.slots) + rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": str(launch.group.node_rank),
        "WORLD_SIZE": str(launch.group.nodes * len(launch.slots)),
        "LOCAL_WORLD_SIZE": str(len(launch.slots)),
        "MASTER_ADDR": launch.group.address,
        "MASTER_PORT": str(port),
        "MODELYARD_DEVICE": "cuda" if on_gpu else "cpu",
        "CUDA_VISIBLE_DEVICES": ",".join(slot.split("-")[1] for slot in launch.slots) if on_gpu else "",
        # Ranks that share cores and each use all of them slow each other down many times over.
        "OMP_NUM_THREADS": kept.get("OMP_NUM_THREADS") or str(_threads_per_rank(len(launch.slots))),
        "PYTHONUNBUFFERED": "1",
        **library_settings(launch.cache, launch.is_online),
    }


def library_settings(cache: Path, is_online: bool) -> dict[str, str]:
    """What libraries read when they are imported; the same in a rank and in the parent that imports ahead for it."""
    return {
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HOME": str(cache / "huggingface"),
        "MODELYARD_CACHE_DIR": str(cache),
        "HF_HUB_OFFLINE": "0" if is_online else "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def _threads_per_rank(ranks: int) -> int:
    return max(1, (os.cpu_count() or 1) // max(2, ranks))

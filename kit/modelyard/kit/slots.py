"""Slots: what a machine can lend to jobs, one lock file each, kept by the kernel.

A slot is a GPU, or a share of the CPU. It is taken with `flock`; the descriptor is inherited by every process of the
job, so the lock lives exactly as long as the last of them, whoever was killed in between. Nobody has to remember to free it.
"""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Slot:
    """One lock file: `cpu-0`, `gpu-3`."""

    name: str
    path: Path

    @property
    def accelerator(self) -> str:
        """`cpu` or `gpu`."""
        return self.name.split("-")[0]

    @property
    def index(self) -> int:
        """The number of the GPU or CPU share on this machine."""
        return int(self.name.split("-")[1])


@dataclass(frozen=True)
class HeldSlots:
    """Slots taken by this process. The descriptors are inheritable; closing them here does not free an heir's."""

    slots: tuple[Slot, ...]
    descriptors: tuple[int, ...]

    @property
    def accelerator(self) -> str:
        """`cpu` or `gpu`: a job never mixes them."""
        return self.slots[0].accelerator if self.slots else "cpu"

    def release(self) -> None:
        """Close our descriptors; the locks stay while an heir lives."""
        for descriptor in self.descriptors:
            os.close(descriptor)


class SlotPool:
    """The slots one worker may lend. GPUs are locked machine-wide, CPU shares per worker name."""

    def __init__(self, folder: Path, worker: str, cpu_slots: int, gpus: tuple[int, ...] = ()) -> None:
        gpu_folder, cpu_folder = folder / "gpu", folder / "cpu" / worker
        for each in (gpu_folder, cpu_folder):
            each.mkdir(parents=True, exist_ok=True)
        self.gpu = tuple(Slot(f"gpu-{index}", gpu_folder / f"gpu-{index}.lock") for index in gpus)
        self.cpu = tuple(Slot(f"cpu-{index}", cpu_folder / f"cpu-{index}.lock") for index in range(cpu_slots))

    def take(self, count: int, accelerator: str) -> HeldSlots | None:
        """Take `count` slots of one accelerator (`gpu`, `cpu`, or `any`: GPUs if enough are free, else CPU), or none at all."""
        kinds = {"gpu": [self.gpu], "cpu": [self.cpu], "any": [self.gpu, self.cpu]}[accelerator]
        for slots in kinds:
            held = _take_from(slots, count)
            if held is not None:
                return held
        return None

    def fits(self, count: int, accelerator: str) -> bool:
        """Whether `take` would succeed now."""
        held = self.take(count, accelerator)
        if held is None:
            return False
        held.release()
        return True

    def could_fit(self, count: int, accelerator: str) -> bool:
        """Whether `take` could succeed on an idle machine."""
        return (accelerator != "cpu" and len(self.gpu) >= count) or (accelerator != "gpu" and len(self.cpu) >= count)

    def list_names(self) -> dict[str, list[str]]:
        """`{"cpu": ["cpu-0", …], "gpu": ["gpu-3", …]}`."""
        return {"cpu": [slot.name for slot in self.cpu], "gpu": [slot.name for slot in self.gpu]}

    def count_free(self) -> dict[str, dict[str, int]]:
        """`{"cpu": {"total", "free"}, "gpu": {"total", "free"}}`."""
        return {
            name: {"total": len(slots), "free": sum(_is_free(slot) for slot in slots)}
            for name, slots in (("cpu", self.cpu), ("gpu", self.gpu))
        }


def _take_from(slots: tuple[Slot, ...], count: int) -> HeldSlots | None:
    taken: list[Slot] = []
    descriptors: list[int] = []
    for slot in slots:
        if len(taken) == count:
            break
        descriptor = _lock(slot)
        if descriptor is not None:
            taken.append(slot)
            descriptors.append(descriptor)
    held = HeldSlots(tuple(taken), tuple(descriptors))
    if len(taken) == count:
        return held
    held.release()
    return None


def _lock(slot: Slot) -> int | None:
    descriptor = os.open(slot.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _is_free(slot: Slot) -> bool:
    descriptor = _lock(slot)
    if descriptor is None:
        return False
    os.close(descriptor)
    return True

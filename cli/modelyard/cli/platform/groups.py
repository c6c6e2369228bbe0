"""The workers of one machine: which stages belong together, and which groups `--workers` names."""

import shutil
import subprocess

from modelyard.cli.errors import WrongUsage

WORKER_GROUPS: dict[str, tuple[str, ...]] = {
    "data": ("prepare", "monitor"),
    "train": ("pretrain", "finetune"),
    "judge": ("prompt", "evaluate"),
    "serve": ("deploy",),
}
CPU_SLOTS = 2
"""Jobs a group runs side by side where there is no GPU; also the most ranks one training job may ask for."""


def choose_groups(wished: str) -> list[str]:
    """The groups for `--workers all|none|LIST`. Raises `WrongUsage` for a name that is none."""
    if wished in {"all", "none"}:
        return list(WORKER_GROUPS) if wished == "all" else []
    names = [name.strip() for name in wished.split(",") if name.strip()]
    for name in names:
        if name not in WORKER_GROUPS:
            raise WrongUsage(f"--workers {name!r} is no worker group: use all, none, or some of {', '.join(WORKER_GROUPS)}")
    return list(dict.fromkeys(names))


def count_gpus() -> int:
    """GPUs the NVIDIA driver of this machine lists; 0 without one. Asks the driver's tool: importing torch takes seconds."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    try:
        listing = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in listing.splitlines())

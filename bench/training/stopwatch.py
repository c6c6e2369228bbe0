"""Time stamps of optimizer steps, taken the same way in every program that trains with torch.

A hook of torch itself runs after each step of any optimizer, so nothing of the program under test is changed.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook


class Stopwatch:
    """When training began and each optimizer step ended: wall time and CPU time of the process, in seconds."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.stamps: list[tuple[float, float]] = []
        self._step_hook = register_optimizer_step_post_hook(self._after_step)
        self._forward_hook = register_module_forward_pre_hook(self._before_forward)

    def _before_forward(self, module: torch.nn.Module, _inputs: Any) -> None:
        if not (module.training and torch.is_grad_enabled()):
            return
        self._forward_hook.remove()  # it would cost every module of every step a call
        self._stamp()

    def _after_step(self, _optimizer: Optimizer, _arguments: Any, _options: Any) -> None:
        self._stamp()

    def _stamp(self) -> None:
        self.stamps.append((time.time(), time.process_time()))
        if len(self.stamps) > 1:
            self._peak = peak_memory_mib()

    def write(self, **more: Any) -> None:
        """Write what was seen, and `more` beside it, for the program that started this one."""
        started = psutil.Process(os.getpid()).create_time()
        document = {"started": started, "stamps": self.stamps, "peak_memory_mib": self._peak, **more}
        self.file.write_text(json.dumps(document))


def peak_memory_mib() -> float:
    """The most memory this process held so far. Not `ru_maxrss`: that begins with what the parent held at the fork."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

"""What each step costs the machine, on every rank: operations, memory, waiting for data, and which rank the others wait for."""

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as group

from modelyard.workers.recipe import Run
from modelyard.workers.training.distributed import device_of_rank
from modelyard.workers.training.flops import Work, count_cost, find_peak
from modelyard.workers.training.peak_memory import read_host_peak

LOOK_STEPS = 10
"""So often ranks tell each other how they fare: one small collective, and one look at the kernel's count of memory."""


class Watch:
    """Times the forward passes and the waiting of one rank; created once per run, on every rank."""

    def __init__(self, run: Run[Any], model: Any, module: Any) -> None:
        """`model`: that of transformers; `module`: what the loop calls, the same or a wrapper of it."""
        self._is_cuda, self._ranks = run.device == "cuda", run.world_size
        self._last_step = run.spec.steps
        self._cost = count_cost(model)
        is_half = run.spec.precision in ("bf16", "fp16")
        self._peak = find_peak(torch.cuda.get_device_name()) if self._is_cuda and is_half else None
        self._moments: list[Any] = []
        # The forward pass is the part of a step in which ranks do not wait for each other, but for ZeRO 3.
        module.register_forward_pre_hook(self._mark)
        module.register_forward_hook(self._mark)

    def measure(self, step: int, seconds: float, waited_seconds: float | None, work: Work | None) -> dict[str, float]:
        """Return the metrics of the step that has ended, counted from 1; every rank calls this after every step."""
        metrics: dict[str, float] = {}
        if self._cost is not None and work is not None:
            rate = self._cost.of(work) / seconds
            metrics["model_flops_per_second"] = rate
            if self._peak is not None:
                metrics["mfu"] = rate / (self._peak * self._ranks)
        if step % LOOK_STEPS == 0 or step in (1, self._last_step):
            metrics |= self._compare(None if waited_seconds is None else waited_seconds / seconds)
        self._moments.clear()
        return metrics

    def forget(self) -> None:
        """Let go of the step that has ended: the run went back before it."""
        self._moments.clear()

    def _mark(self, module: Any, *_: Any) -> None:
        if not module.training:
            return
        if self._is_cuda:
            moment = torch.cuda.Event(enable_timing=True)
            moment.record()
            self._moments.append(moment)
        else:
            self._moments.append(time.perf_counter())

    def _forward_seconds(self) -> float:
        pairs = zip(self._moments[::2], self._moments[1::2], strict=False)
        if self._is_cuda:
            torch.cuda.synchronize()
            return sum(before.elapsed_time(after) for before, after in pairs) / 1000
        return float(sum(after - before for before, after in pairs))

    def _compare(self, wait_share: float | None) -> dict[str, float]:
        memory = float(torch.cuda.max_memory_allocated() if self._is_cuda else read_host_peak())
        mine = Fare(self._forward_seconds(), memory, math.nan if wait_share is None else wait_share)
        if self._ranks == 1:
            return compare_ranks([mine])
        told = torch.tensor(mine, dtype=torch.float64, device=device_of_rank())
        parts = [torch.empty_like(told) for _ in range(self._ranks)]
        group.all_gather(parts, told)
        return compare_ranks([Fare(*part.tolist()) for part in parts])


class Fare(NamedTuple):
    """How one rank fared in a step."""

    forward_seconds: float
    peak_bytes: float
    wait_share: float
    """Of the step's time; NaN where nobody measured it."""


def compare_ranks(ranks: Sequence[Fare]) -> dict[str, float]:
    """Return the metrics of all ranks: the worst of each, and the best where there are several. Pure."""
    forward, memory, waiting = zip(*ranks, strict=True)
    metrics = {"peak_memory_bytes": max(memory)}
    if not any(map(math.isnan, waiting)):
        metrics["data_wait_share"] = max(waiting)
    if len(ranks) > 1:
        metrics |= {
            "smallest_peak_memory_bytes": min(memory),
            "slowest_rank": float(forward.index(max(forward))),
            "slowest_forward_seconds": max(forward),
            "fastest_forward_seconds": min(forward),
        }
    return metrics

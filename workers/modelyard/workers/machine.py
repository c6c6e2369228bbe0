"""The machine a run is on, in words that explain why another one computes something else."""

import os
import platform
import sys
from pathlib import Path
from typing import Any

import psutil

CPU_INFO = Path("/proc/cpuinfo")
NVIDIA_DRIVER = Path("/sys/module/nvidia/version")


def describe_hardware(device: str) -> dict[str, Any]:
    """Return processor, memory and, where `device` is `cuda`, the GPUs this process sees and their driver."""
    import torch

    hardware: dict[str, Any] = {
        "architecture": platform.machine(),
        "cpu": _read_cpu_name(),
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory_bytes": psutil.virtual_memory().total,
    }
    if device == "cuda":
        hardware |= {
            "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
            "driver": NVIDIA_DRIVER.read_text().strip() if NVIDIA_DRIVER.exists() else None,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return hardware


def describe_torch() -> dict[str, Any]:
    """Return the switches of torch that decide how exactly, and in which order, numbers are added up."""
    import torch

    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "threads_between_operators": torch.get_num_interop_threads(),
    }


def _read_cpu_name() -> str:
    if sys.platform == "linux" and CPU_INFO.exists():
        for line in CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

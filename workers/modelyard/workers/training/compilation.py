"""Compiling a model's layers by `torch.compile`. Importing this imports torch."""

from typing import Any

import torch


def compile_layers(engine: Any, *, is_dynamic: bool = False) -> None:
    """Compile one layer for all: they are alike, so a model of any depth costs the compile time of one.

    `is_dynamic`: for sequences of any length at once, instead of anew for each length.
    """
    if engine.device.type == "cpu":
        from modelyard.workers.training.compile_cache import remember_probe

        remember_probe()
    lists = [module for module in engine.module.modules() if isinstance(module, torch.nn.ModuleList)]
    for layer in max(lists, key=len):
        layer.compile(dynamic=is_dynamic)

"""Compiling a model's layers by `torch.compile`. Importing this imports torch."""

import os
from typing import Any

import torch


def compile_layers(engine: Any, *, is_dynamic: bool = False) -> None:
    """Compile one layer for all: they are alike, so a model of any depth costs the compile time of one.

    `is_dynamic`: for sequences of any length at once, instead of anew for each length.
    """
    if "MODELYARD_CACHE_DIR" in os.environ:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(os.environ["MODELYARD_CACHE_DIR"], "compiled"))
    lists = [module for module in engine.module.modules() if isinstance(module, torch.nn.ModuleList)]
    for layer in max(lists, key=len):
        layer.compile(dynamic=is_dynamic)

"""Liger's fused kernels for a model's layers (Hsu et al. 2024, arXiv:2410.10989): where they are taken, and putting them in."""

import sys
from importlib.util import find_spec
from typing import Any, Literal

from modelyard.workers.recipe import BadData, Run
from modelyard.workers.run_manifest import extend_manifest

Kernels = Literal["liger", "torch"]
LIGER = "liger_kernel"


def apply_kernels(run: Run[Any], model: Any, *, compiles: bool) -> Kernels:
    """Give a model of transformers the kernels its spec wants, before anything wraps it; say which in log, figures and manifest.

    Raises `BadData` where Liger's are asked for and cannot be had.
    """
    is_installed = find_spec(LIGER) is not None
    # Importing it takes a second, for nothing on a CPU.
    knows = is_installed and run.device == "cuda" and _knows(model)
    kernels = choose_kernels(run, model.config.model_type, is_installed=is_installed, knows=knows, compiles=compiles)
    if kernels == "liger":
        _apply_liger(model)
    run.figures(kernels=kernels)
    if run.rank == 0:
        extend_manifest(run, kernels=kernels)
    if run.rank == 0 and kernels != "torch":
        print(f"kernels of the layers: {kernels}", file=sys.stderr, flush=True)  # noqa: T201 - the recipe's log
    return kernels


def choose_kernels(run: Run[Any], model_type: str, *, is_installed: bool, knows: bool, compiles: bool) -> Kernels:
    """Return whose kernels a run takes. Raises `BadData` where it wants Liger's and something stands against them."""
    spec = run.spec
    obstacles = {
        "it needs a GPU, and this job runs on a CPU": run.device != "cuda",
        "the layers are compiled, which fuses them": compiles,
        "deepspeed.tensor_parallel_size cuts its layers up": getattr(spec.deepspeed, "tensor_parallel_size", 1) > 1,
        "its results are not the same bits every time, and the spec is deterministic": getattr(spec, "deterministic", False),
        "liger-kernel is not installed on this worker (pip install liger-kernel)": not is_installed,
        f"liger-kernel does not know the model type {model_type}": not knows,
    }
    reason = next((text for text, stands in obstacles.items() if stands), None)
    if spec.kernels == "liger" and reason is not None:
        raise BadData(f"kernels liger: {reason}; set kernels to auto")
    return "torch" if spec.kernels == "off" or reason is not None else "liger"


def _knows(model: Any) -> bool:
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    return model.config.model_type in MODEL_TYPE_TO_APPLY_LIGER_FN


def _apply_liger(model: Any) -> None:
    from liger_kernel.transformers import _apply_liger_kernel_to_instance

    # The loss is ours.
    _apply_liger_kernel_to_instance(model, fused_linear_cross_entropy=False, cross_entropy=False)

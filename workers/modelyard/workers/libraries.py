"""Settings that torch, transformers and DeepSpeed read when they are imported: call this first in a recipe."""

import os
import warnings


def configure_libraries(device: str, *, is_deterministic: bool = False) -> None:
    """Set accelerator, threads and silence. What the environment already says wins. `device`: `cpu` or `cuda`.

    `is_deterministic`: only kernels that give the same bits every time, and an error where there is none.
    """
    os.environ.setdefault("DS_ACCELERATOR", device)
    # Ranks on one machine share its cores; more threads than cores make every one of them slow.
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", "1")))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // ranks_here)))
    # Threads that wait by spinning take the cores from those that work as soon as two jobs share a machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Tokenizers would warn at every fork; progress bars and reporters belong on a terminal, not in a log.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if "MODELYARD_CACHE_DIR" in os.environ:
        # torch takes a folder below /tmp as soon as anything asks for it, and DeepSpeed does.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(os.environ["MODELYARD_CACHE_DIR"], "compiled"))
    # What one library says to another about its next version.
    warnings.simplefilter("ignore", FutureWarning)
    from transformers.utils import logging

    logging.disable_progress_bar()
    if is_deterministic:
        # cuBLAS reads it when the first GPU context is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        import torch

        torch.use_deterministic_algorithms(True)

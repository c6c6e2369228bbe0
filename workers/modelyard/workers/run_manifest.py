"""What a run ran with, written at its start: enough to run it again, and to say why the other one came out differently."""

import hashlib
import json
import os
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from modelyard.workers.machine import describe_hardware, describe_torch
from modelyard.workers.recipe import RUN_MANIFEST, Input, Run

PACKAGES = (
    "torch", "transformers", "deepspeed", "accelerate", "peft", "trl", "tokenizers", "safetensors", "numpy", "triton",
    "bitsandbytes", "liger-kernel", "flash-attn",
)  # fmt: skip
"""What computes, or decides what is computed; those that are not installed are left out.

Not only those imported: a process forked from a warm parent has imported more than one started as a program, and is no other.
"""
ENVIRONMENT = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG", "NCCL_ALGO",
    "PYTORCH_CUDA_ALLOC_CONF", "TORCH_BLAS_PREFER_CUBLASLT",
)  # fmt: skip
"""Variables that change what the libraries compute. No others: they may hold secrets."""


def record_manifest(run: Run[Any]) -> None:
    """Write the manifest of a run into its folder and tell the platform. Called once torch is set up; on rank 0."""
    if run.rank == 0:
        manifest = describe_run(run)
        (run.folder / RUN_MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        run.emit("manifest", manifest=manifest)


def extend_manifest(run: Run[Any], **facts: Any) -> None:
    """Add to the manifest what showed only after the start, and tell the platform again; on rank 0."""
    path = run.folder / RUN_MANIFEST
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    manifest = {**known, **facts}
    path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    run.emit("manifest", manifest=manifest)


def describe_run(run: Run[Any]) -> dict[str, Any]:
    """Return everything that determines what a run makes. It names no folder, host or secret."""
    return {
        "spec": run.spec.model_dump(mode="json"),
        "seed": getattr(run.spec, "seed", None),
        "inputs": {name: _describe_input(given) for name, given in run.inputs.items()},
        "begins_at": run.options.get("begins_at"),
        "code": {"version": metadata.version("modelyard"), "sha256": _hash_code()},
        "packages": _list_packages(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "hardware": describe_hardware(run.device),
        "device": run.device,
        "world_size": run.world_size,
        "torch": describe_torch(),
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    }


def _describe_input(given: Input) -> dict[str, Any]:
    return {"type": given.type, "id": given.id, "name": given.name, "version": given.version, "sha256": given.digest()}


@cache
def _list_packages() -> dict[str, str]:
    return {name: version for name in PACKAGES if (version := _find_version(name))}


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def _hash_code() -> str:
    """SHA-256 over the names and contents of the recipes' room: a changed line shows where the version does not."""
    room = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(room.rglob("*.py")):
        digest.update(f"{path.relative_to(room).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()

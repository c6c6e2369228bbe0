"""Environments of the peers: MLflow and Prefect conflict with each other and with us, so each has one of its own.

They are made once, below `~/.cache/modelyard-bench` (`MODELYARD_BENCH_CACHE` says where else), with pip.
"""

import os
import subprocess
import sys
from pathlib import Path

from bench.measurement import say

PACKAGES = {
    "mlflow": ["mlflow>=3,<4"],
    "prefect": ["prefect>=3,<4", "fastapi<0.120"],  # newer ones it does not start with
    "queues": ["celery[redis]>=5.7,<5.8", "rq", "dramatiq[redis]", "huey", "redis"],
}


def cache() -> Path:
    """Where the environments are."""
    return Path(os.environ.get("MODELYARD_BENCH_CACHE", Path.home() / ".cache" / "modelyard-bench"))


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment, made when first asked for."""
    folder = cache() / name
    python, done = folder / "bin" / "python", folder / ".installed"
    if not done.exists():
        say(f"installing {', '.join(PACKAGES[name])} into {folder}")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES[name]], check=True)
        done.touch()
    return python


def version_of(name: str, package: str) -> str:
    """The version of a package in a peer's environment."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([str(python_of(name)), "-c", code], check=True, capture_output=True, text=True).stdout.strip()

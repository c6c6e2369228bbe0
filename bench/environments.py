"""Environments of the peers: MLflow and Prefect conflict with each other and with us, so each has one of its own.

They are made once, below `~/.cache/modelyard-bench` (`MODELYARD_BENCH_CACHE` says where else), with pip.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from bench.measurement import say

PACKAGES = {
    "mlflow": ["mlflow>=3,<4"],
    "prefect": ["prefect>=3,<4", "fastapi<0.120"],  # newer ones it does not start with
    "litgpt": ["litgpt>=0.5.13,<0.6", "numpy", "requests"],
    "queues": ["celery[redis]>=5.7,<5.8", "rq", "dramatiq[redis]", "huey", "redis"],
}

ENGINE_PEERS = ("mlflow", "prefect", "queues")
BORROWED = {"litgpt": ("torch", "torchgen", "functorch")}
"""Packages of this environment a peer's one links to: the same build of torch, and no second copy of gigabytes."""


def cache() -> Path:
    """Where the environments are."""
    return Path(os.environ.get("MODELYARD_BENCH_CACHE", Path.home() / ".cache" / "modelyard-bench"))


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment, made when first asked for."""
    folder = cache() / name
    python, done = folder / "bin" / "python", folder / ".installed"
    if not done.exists():
        say(f"installing {', '.join(PACKAGES[name])} into {folder}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        for package in BORROWED.get(name, ()):
            _link(package, folder)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES[name]], check=True)
        done.touch()
    return python


def _link(package: str, folder: Path) -> None:
    """Make a package of this environment, and what pip knows of it, part of another one."""
    ours = Path(sysconfig.get_path("purelib"))
    theirs = folder / ours.relative_to(sys.prefix)
    for place in (ours / package, *ours.glob(f"{package}-*.dist-info")):
        (theirs / place.name).symlink_to(place)


def version_of(name: str, package: str) -> str:
    """The version of a package in a peer's environment."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([str(python_of(name)), "-c", code], check=True, capture_output=True, text=True).stdout.strip()

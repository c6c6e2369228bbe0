"""Install the build of torch that fits this machine: without CUDA where there is no NVIDIA GPU, because CUDA is gigabytes.

Run by `make install` and by the Dockerfile with the environment's Python; knows only the standard library.
A given index (`--index`) decides alone: one of CUDA builds must give a CUDA build, also where no GPU is to be seen, as
while an image is built. Without one, the order of attempts: a CPU build in pip's own sources, PyTorch's CPU index where
it can be reached, and last whatever pip's sources offer.
"""

import argparse
import platform
import shutil
import subprocess
import sys
import urllib.request

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""Where PyTorch publishes its CPU builds (pytorch.org/get-started)."""
PROBE_SECONDS = 5


def wants_cpu_build() -> bool:
    """Only Linux on x86-64 gets CUDA unless asked otherwise; on other systems the plain build is the CPU one."""
    is_linux_x86 = sys.platform == "linux" and platform.machine() in {"x86_64", "AMD64"}
    return is_linux_x86 and shutil.which("nvidia-smi") is None


def is_reachable(url: str) -> bool:
    """Whether something answers there soon."""
    try:
        with urllib.request.urlopen(url, timeout=PROBE_SECONDS) as answer:  # noqa: S310 - a constant https address
            return bool(answer.status == 200)
    except OSError:
        return False


def install(*arguments: str, quietly: bool = False) -> bool:
    """Run pip install; return whether it succeeded. `quietly` for attempts that may well fail."""
    command = [sys.executable, "-m", "pip", "install", *arguments]
    return subprocess.run(command, stderr=subprocess.DEVNULL if quietly else None).returncode == 0  # noqa: PLW1510


def install_torch(version: str, index: str, constraints: str) -> bool:
    """Install torch from the first place that has a fitting build."""
    limits = ("--quiet", "--constraint", constraints)
    if index:
        return install_from(index, version, limits)
    if not wants_cpu_build():
        return install(*limits, f"torch=={version}")
    if install(*limits, f"torch=={version}+cpu", quietly=True):
        return True
    if is_reachable(CPU_INDEX) and install(*limits, f"torch=={version}+cpu", "--extra-index-url", CPU_INDEX):
        return True
    sys.stderr.write(f"no CPU build of torch {version} within reach: taking the one pip's own index offers\n")
    return install(*limits, f"torch=={version}")


def install_from(index: str, version: str, limits: tuple[str, ...]) -> bool:
    """Install the build an index is named after, e.g. `…/whl/cu128` -> `2.13.0+cu128`; else what it or pip's sources have."""
    build = index.rstrip("/").rpartition("/")[2]
    if install(*limits, f"torch=={version}+{build}", "--extra-index-url", index, quietly=True):
        return True
    sys.stderr.write(f"no torch {version}+{build} within reach: taking another build of {version}\n")
    if not install(*limits, f"torch=={version}", "--extra-index-url", index):
        return False
    if build.startswith("cu") and not has_cuda():
        sys.stderr.write(f"torch {version} from {index} and pip's sources has no CUDA: set TORCH_INDEX to an index that has\n")
        return False
    return True


def has_cuda() -> bool:
    """Whether the torch now installed was built with CUDA; asked of another process, since this one may know an older one."""
    question = "import sys, torch; sys.exit(torch.version.cuda is None)"
    return subprocess.run([sys.executable, "-c", question]).returncode == 0  # noqa: PLW1510


def main() -> None:
    """Install torch as the constraints file pins it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--constraints", default="constraints.txt")
    parser.add_argument("--index", default="", help="package index to prefer, e.g. https://download.pytorch.org/whl/cu128")
    arguments = parser.parse_args()
    with open(arguments.constraints, encoding="utf-8") as file:
        version = next(line.strip().partition("==")[2] for line in file if line.startswith("torch=="))
    sys.exit(0 if install_torch(version, arguments.index, arguments.constraints) else 1)


if __name__ == "__main__":
    main()

"""Which build of torch is installed, tried with pip on indexes of tiny wheels in a folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "installation" / "torch_build.py"


def publish(index: Path, version: str, cuda: str | None) -> None:
    """Put a wheel named torch into a package index (PEP 503) that is a folder."""
    folder = index / "torch"
    folder.mkdir(parents=True, exist_ok=True)
    information = f"torch-{version}.dist-info"
    files = {
        "torch/__init__.py": "from torch import version\n",
        "torch/version.py": f"cuda = {cuda!r}\n",
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{information}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{information}/RECORD"])
    with zipfile.ZipFile(folder / f"torch-{version}-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    links = "".join(f'<a href="{each.name}">{each.name}</a>' for each in folder.glob("*.whl"))
    (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with nothing but pip."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder / "bin" / "python"


def install(python: Path, folder: Path, index: str) -> tuple[int, str, str]:
    """Run the script; return its exit code, what it said, and the version of torch it installed."""
    constraints = folder / "constraints.txt"
    constraints.write_text("torch==2.13.0\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment = {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": (folder / "pypi").as_uri()}
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "torch"], env=environment, check=True)
    command = [python, SCRIPT, "--constraints", constraints, "--index", (folder / index).as_uri()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    shown = subprocess.run([python, "-m", "pip", "freeze"], env=environment, capture_output=True, text=True, check=True)
    return done.returncode, done.stderr, shown.stdout.strip()


class TestIndex:
    @pytest.mark.parametrize(("build", "cuda"), [("cu128", "12.8"), ("cpu", None)])
    def test_gives_the_build_it_is_named_after(self, python: Path, tmp_path: Path, build: str, cuda: str | None) -> None:
        publish(tmp_path / "pypi", "2.13.0", "13.0")
        publish(tmp_path / build, f"2.13.0+{build}", cuda)
        publish(tmp_path / build, "2.13.0+zzz", None)  # sorts behind the one that was asked for
        code, said, installed = install(python, tmp_path, build)
        assert (code, installed) == (0, f"torch==2.13.0+{build}"), said

    def test_another_build_with_cuda_will_do(self, python: Path, tmp_path: Path) -> None:
        publish(tmp_path / "pypi", "2.13.0", "13.0")
        publish(tmp_path / "cu128", "2.12.0+cu128", "12.8")
        code, said, installed = install(python, tmp_path, "cu128")
        assert (code, installed) == (0, "torch==2.13.0")
        assert "no torch 2.13.0+cu128 within reach" in said

    def test_a_build_without_cuda_will_not(self, python: Path, tmp_path: Path) -> None:
        publish(tmp_path / "pypi", "2.13.0", None)
        publish(tmp_path / "cu128", "2.12.0+cu128", "12.8")
        code, said, _ = install(python, tmp_path, "cu128")
        assert code == 1
        assert "has no CUDA: set TORCH_INDEX" in said

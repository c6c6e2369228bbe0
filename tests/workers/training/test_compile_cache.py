"""What the compiler found out about a machine is tried once, and again when the compiler is another."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="torch has no compiler for CPUs here")


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The kinds of instructions tried, in a process that knows of none yet; torch's own check does the work."""
    from torch._inductor import config, cpu_vec_isa

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    done: list[str] = []
    check = cpu_vec_isa.VecISA.check_build

    def noted(self: cpu_vec_isa.VecISA, code: str) -> bool:
        done.append(str(self))
        return bool(check(self, code))

    monkeypatch.setattr(cpu_vec_isa.VecISA, "check_build", noted)
    with config.patch({"cpp.vec_isa_ok": None}):
        forget()
        yield done
    forget()


def forget() -> None:
    """Be a process that has tried nothing."""
    from torch._inductor import cpu_vec_isa

    vars(cpu_vec_isa.VecISA)["_VecISA__bool__impl"].cache_clear()
    cpu_vec_isa.valid_vec_isa_list.cache_clear()


@pytest.mark.slow
def test_only_the_first_process_tries(trials: list[str], tmp_path: Path) -> None:
    from modelyard.workers.training.compile_cache import PROBED, remember_probe

    remember_probe(tmp_path)
    if not (tmp_path / PROBED).exists():
        pytest.skip("the compiler knows less than the processor has: every process has to try")
    assert trials
    trials.clear()
    forget()
    remember_probe(tmp_path)
    assert trials == []
    (tmp_path / PROBED).write_text("/usr/bin/another-compiler 0 avx2")
    remember_probe(tmp_path)
    assert trials
    assert "another" not in (tmp_path / PROBED).read_text()

"""What the compiler found out about a machine, kept beside what it compiled there. Importing this imports torch's compiler."""

import os
import shutil
from pathlib import Path

from torch._inductor import config, cpu_vec_isa
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.runtime.cache_dir_utils import cache_dir

PROBED = "vector-instructions"


def remember_probe(folder: Path | None = None) -> None:
    """Find which vector instructions compiler and processor know; what an earlier process tried is not tried again.

    A trial loads torch's libraries in a process of its own, for each kind of instructions: a third of what the second process
    that compiles a model takes. `folder`: where the compiled code is.
    """
    known = (folder or Path(cache_dir())) / PROBED
    if known.exists() and known.read_text() == _probe(is_trusted=True):
        return
    found = _probe(is_trusted=None)
    # The switch is part of what compiled code is found by, so it has to be the same in this process and in later ones.
    if found != _probe(is_trusted=True):
        _probe(is_trusted=None)  # the compiler knows less than the processor has
        return
    partial = known.with_name(f".{PROBED}.{os.getpid()}")
    partial.write_text(found)
    partial.rename(known)  # several processes may be here at once


def _probe(*, is_trusted: bool | None) -> str:
    """Return compiler and instructions. `is_trusted`: whether what the processor has is taken to be what the compiler knows."""
    config.cpp.vec_isa_ok = is_trusted
    cpu_vec_isa.valid_vec_isa_list.cache_clear()
    compiler = Path(shutil.which(get_cpp_compiler()) or "").resolve()
    changed = compiler.stat().st_mtime_ns if compiler.is_file() else 0
    return f"{compiler} {changed} {cpu_vec_isa.pick_vec_isa()}"

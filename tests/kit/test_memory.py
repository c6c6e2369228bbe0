"""What a machine says of its memory."""

import os
from pathlib import Path

import pytest

from modelyard.kit.memory import parse_gpu_memory, read_gpu_memory, read_host_memory


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose driver lists three GPUs."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf '0, 81559\\n1, 40960\\n2, 24576\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


class TestRead:
    def test_host_memory_is_what_there_is_at_most(self) -> None:
        assert 2**28 < read_host_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    @pytest.mark.usefixtures("driver")
    @pytest.mark.parametrize(("indices", "mebibytes"), [((0,), 81559), ((0, 1), 40960), ((1, 2), 24576)])
    def test_the_smallest_lent_gpu_counts(self, indices: tuple[int, ...], mebibytes: int) -> None:
        assert read_gpu_memory(indices) == mebibytes * 2**20

    @pytest.mark.usefixtures("driver")
    @pytest.mark.parametrize("indices", [(), (7,)])
    def test_none_without_a_gpu(self, indices: tuple[int, ...]) -> None:
        assert read_gpu_memory(indices) is None

    def test_lines_of_other_kinds_are_passed_over(self) -> None:
        assert parse_gpu_memory("warning: slow\n3, 81559\n4, [N/A]\n") == {3: 81559 * 2**20}

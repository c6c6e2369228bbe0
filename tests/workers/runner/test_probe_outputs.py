"""A probe's outputs and checkpoints are not kept."""

from pathlib import Path

import pytest
from factories import Factory
from sqlmodel import select

from modelyard.domain.jobs.tables import Checkpoint
from modelyard.kit.storage import ArtifactStore
from modelyard.workers.runner.outputs import keep_checkpoint, keep_part, store_outputs

OUTPUT = {"type": "output", "name": "model", "output_type": "model", "path": "outputs/model", "metadata": {"name": "bard"}}


@pytest.mark.parametrize("is_probe", [False, True])
def test_a_probe_stores_nothing(factory: Factory, tmp_path: Path, is_probe: bool) -> None:
    job = factory.running("import", is_probe=is_probe)
    (tmp_path / "run" / "outputs" / "model").mkdir(parents=True)
    (tmp_path / "run" / "outputs" / "model" / "weights").write_text("w")
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
    made = store_outputs(store, job, tmp_path / "run", [OUTPUT])
    assert list(made) == ([] if is_probe else ["model"])
    assert (tmp_path / "store").exists() is not is_probe


@pytest.mark.parametrize("is_probe", [False, True])
def test_a_probe_keeps_no_checkpoint(factory: Factory, tmp_path: Path, is_probe: bool) -> None:
    job = factory.running("import", is_probe=is_probe)
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
    job.nodes = 2
    saved = {"path": "checkpoints/step-3", "step": 3, "at": 1.0}
    for keep in (
        lambda: keep_checkpoint(factory.database, store, job, tmp_path, saved),
        lambda: keep_part(store, job, tmp_path, 1, saved),
    ):
        (tmp_path / "checkpoints" / "step-3").mkdir(parents=True)
        (tmp_path / "checkpoints" / "step-3" / "state").write_text("s")
        keep()
        assert not (tmp_path / "checkpoints" / "step-3").exists()
    assert len(factory.find(select(Checkpoint))) == (0 if is_probe else 1)
    assert (tmp_path / "store").exists() is not is_probe

"""A probe's outputs are not kept."""

from pathlib import Path

import pytest
from factories import Factory

from modelyard.kit.storage import ArtifactStore
from modelyard.workers.runner.outputs import store_outputs

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

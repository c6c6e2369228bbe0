"""A look at every stored byte names the files that are not what was written."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from modelyard.kit.inspection import Damage, find_damage
from modelyard.kit.storage import MANIFEST, ArtifactStore

WRITTEN = {"progress.json": "step 10", "state/weights.pt": "weights"}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def put(place: str, folder: Path) -> tuple[ArtifactStore, str]:
    """A store with one artifact, and that one's digest."""
    for name, text in WRITTEN.items():
        (folder / "made" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "made" / name).write_text(text)
    store = ArtifactStore(place, folder / "cache")
    sha256: str = store.put(folder / "made", "checkpoints/one")["sha256"]
    shutil.rmtree(folder / "made")  # what is stored may be links to it
    return store, sha256


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return put(str(tmp_path / "store"), tmp_path)[0]


def test_whole(tmp_path: Path) -> None:
    store, sha256 = put(str(tmp_path / "store"), tmp_path)
    assert find_damage(store, "checkpoints/one", sha256) == []


def test_in_a_store_far_away(tmp_path: Path) -> None:
    store, sha256 = put(f"memory://{tmp_path.name}", tmp_path)
    assert find_damage(store, "checkpoints/one", sha256) == []
    fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}/checkpoints/one/progress.json", b"step 11")
    assert find_damage(store, "checkpoints/one") == [Damage("progress.json", digest("step 10"), digest("step 11"))]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda folder: (folder / "state/weights.pt").write_text("Weights"), ("state/weights.pt", "weights", "Weights")),
        (lambda folder: (folder / "state/weights.pt").write_text(""), ("state/weights.pt", "weights", "")),
        (lambda folder: (folder / "progress.json").unlink(), ("progress.json", "step 10", None)),
    ],
)
def test_which_file_and_how(
    store: ArtifactStore, tmp_path: Path, spoil: Callable[[Path], object], expected: tuple[str, str, str | None]
) -> None:
    folder = tmp_path / "store" / "checkpoints" / "one"
    spoil(folder)
    file, before, after = expected
    assert find_damage(store, "checkpoints/one") == [Damage(file, digest(before), None if after is None else digest(after))]


@pytest.mark.parametrize("text", [None, "{", "[]", '{"files": {"a": {}}}'])
def test_no_readable_manifest(store: ArtifactStore, tmp_path: Path, text: str | None) -> None:
    manifest = tmp_path / "store" / "checkpoints" / "one" / MANIFEST
    manifest.unlink()
    if text is not None:
        manifest.write_text(text)
    assert find_damage(store, "checkpoints/one", "abc") == [Damage(MANIFEST, "abc", None)]


def test_a_manifest_of_other_files(store: ArtifactStore) -> None:
    (found,) = find_damage(store, "checkpoints/one", "abc")
    assert (found.file, found.expected) == (MANIFEST, "abc")

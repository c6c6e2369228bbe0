"""Artifacts are complete or absent, on a disk and in an S3 store."""

import json
import os
import shutil
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import run_s3

from modelyard.kit.storage import (
    MANIFEST,
    TEXT_LIMIT_BYTES,
    ArtifactStore,
    DamagedArtifact,
    FileTooLarge,
    build_manifest,
    merge_folders,
    verify_manifest,
)

FILES = {"weights.bin": b"\0" * 1000, "deep/er/config.json": b"{}", "ä.txt": "Ä".encode()}


def make_folder(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    """Write files below a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """An S3 store, found as in production by the environment."""
    with run_s3() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import fsspec

        fsspec.filesystem("s3").mkdir("artifacts")
        yield "s3://artifacts/modelyard"


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """A store on this disk, and one in S3."""
    url = str(tmp_path / "store") if request.param == "local" else request.getfixturevalue("s3") + f"/{tmp_path.name}"
    return ArtifactStore(url, tmp_path / "cache")


class TestDescribe:
    def test_the_same_content_has_the_same_digest(self, tmp_path: Path) -> None:
        first = build_manifest(make_folder(tmp_path / "first"))
        second = build_manifest(make_folder(tmp_path / "second", dict(reversed(FILES.items()))))
        assert first == second
        assert first["bytes"] == sum(map(len, FILES.values()))
        assert set(first["files"]) == set(FILES)

    @pytest.mark.parametrize("change", [{"weights.bin": b"\1" * 1000}, {"more": b""}])
    def test_other_content_has_another_digest(self, tmp_path: Path, change: dict[str, bytes]) -> None:
        before = build_manifest(make_folder(tmp_path / "it"))
        assert build_manifest(make_folder(tmp_path / "it", change))["sha256"] != before["sha256"]

    def test_a_name_cannot_pass_for_content(self, tmp_path: Path) -> None:
        one = build_manifest(make_folder(tmp_path / "one", {"a": b"b"}))
        other = build_manifest(make_folder(tmp_path / "other", {"b": b"a"}))
        assert one["sha256"] != other["sha256"]


class TestVerify:
    @pytest.mark.parametrize("damage", ["missing", "shorter", "changed", "no manifest", "torn manifest", "empty manifest"])
    def test_damage_is_noticed(self, tmp_path: Path, damage: str) -> None:
        folder = make_folder(tmp_path / "it")
        build_manifest(folder)
        assert verify_manifest(folder)
        weights, manifest = folder / "weights.bin", folder / MANIFEST
        {
            "missing": weights.unlink,
            "shorter": lambda: os.truncate(weights, 999),
            "changed": lambda: weights.write_bytes(b"\0" * 999 + b"\1"),
            "no manifest": manifest.unlink,
            "torn manifest": lambda: manifest.write_text(manifest.read_text()[:40]),
            "empty manifest": lambda: manifest.write_text("[]"),
        }[damage]()
        with pytest.raises(DamagedArtifact, match=str(folder)):
            verify_manifest(folder)


class TestPut:
    def test_round_trip(self, store: ArtifactStore, tmp_path: Path) -> None:
        manifest = store.put(make_folder(tmp_path / "it"), "model/one")
        shutil.rmtree(tmp_path / "it")  # what is stored does not hang on what it was made from
        folder = store.fetch("model/one")
        assert {name: (folder / name).read_bytes() for name in FILES} == FILES
        assert verify_manifest(folder) == manifest
        assert json.loads(store.read_text("model/one", MANIFEST)) == manifest

    def test_storing_it_again_changes_nothing(self, store: ArtifactStore, tmp_path: Path) -> None:
        first = store.put(make_folder(tmp_path / "it"), "model/one")
        assert store.put(tmp_path / "it", "model/one") == first
        assert verify_manifest(store.fetch("model/one")) == first

    def test_deleted_is_gone(self, store: ArtifactStore, tmp_path: Path) -> None:
        store.put(make_folder(tmp_path / "it"), "model/one")
        store.delete("model/one")
        store.delete("model/one")
        with pytest.raises((DamagedArtifact, FileNotFoundError)):
            store.fetch("model/one")

    @pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second disk, where files are copied, not linked")
    def test_what_fails_halfway_leaves_nothing(self, tmp_path: Path) -> None:
        folder = make_folder(tmp_path / "it")
        os.mkfifo(folder / "zzz")  # has no content to copy
        with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
            with pytest.raises(OSError, match="zzz"):
                ArtifactStore(place, tmp_path / "cache").put(folder, "model/one")
            assert list((Path(place) / "model").iterdir()) == []


class TestFetch:
    def test_a_file_cut_short_is_noticed(self, tmp_path: Path) -> None:
        store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
        store.put(make_folder(tmp_path / "it"), "model/one")
        os.truncate(tmp_path / "store" / "model" / "one" / "weights.bin", 10)
        with pytest.raises(DamagedArtifact, match=r"weights\.bin"):
            store.fetch("model/one")

    def test_a_damaged_object_never_reaches_the_cache(self, s3: str, tmp_path: Path) -> None:
        import fsspec

        store = ArtifactStore(s3 + "/damaged", tmp_path / "cache")
        store.put(make_folder(tmp_path / "it"), "one")
        with fsspec.open(f"{s3}/damaged/one/weights.bin", "wb") as file:
            file.write(b"\1" * 1000)
        with pytest.raises(DamagedArtifact, match=r"weights\.bin"):
            store.fetch("one")
        assert list((tmp_path / "cache").iterdir()) == []

    def test_an_upload_without_manifest_is_absent(self, s3: str, tmp_path: Path) -> None:
        import fsspec

        with fsspec.open(f"{s3}/half/one/weights.bin", "wb") as file:
            file.write(b"0")
        with pytest.raises(FileNotFoundError):
            ArtifactStore(s3 + "/half", tmp_path / "cache").fetch("one")


class TestRead:
    @pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "deep/../../secret", "missing"])
    def test_nothing_outside_the_artifact(self, tmp_path: Path, name: str) -> None:
        store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
        store.put(make_folder(tmp_path / "it"), "one")
        (tmp_path / "store" / "secret").write_text("secret")
        with pytest.raises(FileNotFoundError):
            store.read_text("one", name)

    def test_a_large_file_is_refused_by_its_size(self, store: ArtifactStore, tmp_path: Path) -> None:
        files = {"fits.txt": b"x" * TEXT_LIMIT_BYTES, "model.safetensors": b"x" * (TEXT_LIMIT_BYTES + 1)}
        store.put(make_folder(tmp_path / "it", files), "one")
        assert len(store.read_text("one", "fits.txt")) == TEXT_LIMIT_BYTES
        tracemalloc.start()
        try:
            with pytest.raises(FileTooLarge, match=r"one/model\.safetensors has 8\.0 MiB.*artifact store"):
                store.read_text("one", "model.safetensors")
            assert tracemalloc.get_traced_memory()[1] < TEXT_LIMIT_BYTES / 4  # refused, not read and then refused
        finally:
            tracemalloc.stop()


class TestMerge:
    def test_one_folder_of_all_files_that_verifies(self, tmp_path: Path) -> None:
        parts = [tmp_path / "a", tmp_path / "b"]
        for part in parts:
            part.mkdir()
            (part / "same.txt").write_text("same")
            (part / f"{part.name}.txt").write_text(part.name)
            build_manifest(part)
        merge_folders(parts, tmp_path / "both")
        assert set(verify_manifest(tmp_path / "both")["files"]) == {"same.txt", "a.txt", "b.txt"}

    def test_two_files_of_one_name_are_refused(self, tmp_path: Path) -> None:
        parts = [tmp_path / "a", tmp_path / "b"]
        for part in parts:
            part.mkdir()
            (part / "name.txt").write_text(f"of {part.name}")
            build_manifest(part)
        with pytest.raises(DamagedArtifact, match=r"name\.txt differs"):
            merge_folders(parts, tmp_path / "both")
        assert (tmp_path / "a" / "name.txt").read_text() == "of a"

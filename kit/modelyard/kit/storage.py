"""Artifacts: immutable folders, complete or absent, on a local disk or any store fsspec reaches (S3)."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

MANIFEST = "manifest.json"
TEXT_LIMIT_BYTES = 8 * 2**20
"""Reports and manifests are far smaller, weights far larger."""


class DamagedArtifact(Exception):
    """A folder is not what its manifest says."""


class FileTooLarge(OSError):
    """A file is too large to be read into memory as a whole."""


def build_manifest(folder: Path) -> dict[str, Any]:
    """Describe every file of a folder in `manifest.json`, synced and written last; return it.

    `{"sha256", "bytes", "files": {relative path: {"bytes", "sha256"}}}`; the outer sha256 is over names and digests,
    so two folders with the same content have the same digest wherever and whenever they were made.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
            files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": digest}
    return _write_manifest(folder, files)


def merge_folders(parts: Sequence[Path], folder: Path) -> dict[str, Any]:
    """Lay verified artifact folders on top of each other, without copying where they are on one disk; return the manifest.

    Raises `DamagedArtifact` where two of them have different files under one name.
    """
    files: dict[str, dict[str, Any]] = {}
    for part in parts:
        for name, entry in verify_manifest(part, deep=False)["files"].items():
            if files.setdefault(name, entry) != entry:
                raise DamagedArtifact(f"{part / name} differs from the file of that name in another part")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if not (folder / name).exists():  # never write through a link into somebody else's file
                _link_or_copy(str(part / name), str(folder / name))
    return _write_manifest(folder, files)


def _write_manifest(folder: Path, files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    listing = "".join(f"{name}\0{entry['sha256']}\n" for name, entry in files.items())
    manifest = {
        "sha256": hashlib.sha256(listing.encode()).hexdigest(),
        "bytes": sum(int(str(entry["bytes"])) for entry in files.values()),
        "files": files,
    }
    _write_synced(folder / MANIFEST, json.dumps(manifest, indent=1))
    return manifest


def verify_manifest(folder: Path, deep: bool = True) -> dict[str, Any]:
    """Return the manifest of a folder whose files are all there and whole; raise `DamagedArtifact` otherwise.

    `deep=False` compares sizes only, which is enough to notice a write cut short.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"].items()
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DamagedArtifact(f"{folder} has no readable {MANIFEST}: {error}") from error
    for name, entry in files:
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            raise DamagedArtifact(f"{path} is missing or has another size than its manifest says")
        if deep:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                    raise DamagedArtifact(f"{path} has another content than its manifest says")
    return manifest


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


class ArtifactStore:
    """Folders by key. `url` is a local path or an fsspec URL such as `s3://bucket/prefix`."""

    def __init__(self, url: str, cache: Path) -> None:
        self.url = url.removeprefix("file://").rstrip("/")
        self.is_local = "://" not in self.url
        self.cache = cache

    def put(self, folder: Path, key: str) -> dict[str, Any]:
        """Store a folder under a key and return its manifest. Storing the same content again is harmless."""
        manifest = build_manifest(folder)
        if self.is_local:
            self._put_local(folder, Path(self.url) / key)
        else:
            self._put_remote(folder, f"{self.url}/{key}")
        return manifest

    def exists(self, key: str) -> bool:
        """Whether an artifact is there, complete."""
        if self.is_local:
            return (Path(self.url) / key / MANIFEST).is_file()
        filesystem, root = self._filesystem(f"{self.url}/{key}")
        filesystem.invalidate_cache()
        return bool(filesystem.exists(f"{root}/{MANIFEST}"))

    def fetch(self, key: str) -> Path:
        """Return a local folder with the artifact, downloaded and verified once. Raises `DamagedArtifact`."""
        if self.is_local:
            folder = Path(self.url) / key
            verify_manifest(folder, deep=False)
            return folder
        folder = self.cache / key
        if not folder.exists():
            partial = folder.with_name(f".partial-{uuid.uuid4().hex}")
            try:
                self._get_remote(f"{self.url}/{key}", partial)
                verify_manifest(partial)
                _rename_or_keep(partial, folder)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        return folder

    def read_text(self, key: str, name: str) -> str:
        """Read one small file of an artifact, e.g. its report. Raises `FileNotFoundError` and, above 8 MiB, `FileTooLarge`."""
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts:
            raise FileNotFoundError(name)
        if self.is_local:
            path = Path(self.url) / key / name
            _check_size(f"{key}/{name}", path.stat().st_size)
            return path.read_text(encoding="utf-8")
        filesystem, remote = self._filesystem(f"{self.url}/{key}/{name}")
        _check_size(f"{key}/{name}", filesystem.size(remote) or 0)
        return str(filesystem.read_text(remote, encoding="utf-8"))

    def read_start(self, key: str, name: str, limit_bytes: int) -> bytes:
        """Read the first bytes of one file of an artifact, however large it is. Raises `FileNotFoundError`."""
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts:
            raise FileNotFoundError(name)
        if self.is_local:
            with (Path(self.url) / key / name).open("rb") as file:
                return file.read(limit_bytes)
        import fsspec

        with fsspec.open(f"{self.url}/{key}/{name}", "rb") as remote:
            return bytes(remote.read(limit_bytes))

    def open(self, key: str, name: str) -> BinaryIO:
        """Open one file of an artifact where it is stored, past every cache. Raises `FileNotFoundError`."""
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts:
            raise FileNotFoundError(name)
        if self.is_local:
            return (Path(self.url) / key / name).open("rb")
        filesystem, remote = self._filesystem(f"{self.url}/{key}/{name}")
        filesystem.invalidate_cache()
        return cast(BinaryIO, filesystem.open(remote, "rb"))

    def delete(self, key: str) -> None:
        """Remove an artifact; nothing happens if it is not there."""
        if self.is_local:
            shutil.rmtree(Path(self.url) / key, ignore_errors=True)
            return
        filesystem, root = self._filesystem(f"{self.url}/{key}")
        if filesystem.exists(root):
            filesystem.rm(root, recursive=True)

    def _put_local(self, folder: Path, final: Path) -> None:
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.with_name(f".partial-{uuid.uuid4().hex}")
        try:
            # Hard links: the same bytes on the same disk, no copy; falls back to a copy across disks.
            shutil.copytree(folder, partial, copy_function=_link_or_copy)
            for each in (partial, *(path for path in partial.rglob("*") if path.is_dir())):
                _sync_folder(each)
            _rename_or_keep(partial, final)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def _put_remote(self, folder: Path, url: str) -> None:
        filesystem, root = self._filesystem(url)
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != MANIFEST:
                filesystem.put_file(str(path), f"{root}/{path.relative_to(folder).as_posix()}")
        # Object stores have no rename: the manifest, written last, is what makes the artifact exist.
        filesystem.put_file(str(folder / MANIFEST), f"{root}/{MANIFEST}")

    def _get_remote(self, url: str, folder: Path) -> None:
        filesystem, root = self._filesystem(url)
        folder.mkdir(parents=True, exist_ok=True)
        filesystem.get_file(f"{root}/{MANIFEST}", str(folder / MANIFEST))
        for name in json.loads((folder / MANIFEST).read_text())["files"]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            filesystem.get_file(f"{root}/{name}", str(folder / name))

    @staticmethod
    def _filesystem(url: str) -> tuple[Any, str]:
        import fsspec

        filesystem, root = fsspec.core.url_to_fs(url)
        return filesystem, root


def _check_size(name: str, size_bytes: int) -> None:
    if size_bytes > TEXT_LIMIT_BYTES:
        megabytes, limit = size_bytes / 2**20, TEXT_LIMIT_BYTES // 2**20
        raise FileTooLarge(
            f"{name} has {megabytes:.1f} MiB; files above {limit} MiB are not shown here: take it from the artifact store"
        )


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
        with open(target, "rb") as copy:
            os.fsync(copy.fileno())


def _rename_or_keep(partial: Path, final: Path) -> None:
    """Rename into place, for good; if somebody else did so first, the content is the same and ours is dropped."""
    try:
        partial.rename(final)
    except OSError:
        if not final.exists():
            raise
        shutil.rmtree(partial)
    _sync_folder(final.parent)


def _sync_folder(folder: Path) -> None:
    """Make names that were added to a folder survive a power cut: a synced file without its name is lost all the same."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Files of other projects are exactly those that were looked at."""

import hashlib
from pathlib import Path

from modelyard.api.dashboard.application import STATIC

VENDOR = STATIC / "vendor"


def read_checksums() -> dict[str, str]:
    lines = (VENDOR / "CHECKSUMS").read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines if line and not line.startswith("#"))}


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class TestCompare:
    def test_every_file_is_listed_and_unchanged(self) -> None:
        files = {path.name: digest_of(path) for path in VENDOR.iterdir() if path.name != "CHECKSUMS"}
        assert files == read_checksums()

    def test_each_names_version_licence_and_source(self) -> None:
        notes = [line for line in (VENDOR / "CHECKSUMS").read_text().splitlines() if "licence" in line]
        assert len(notes) == 3
        assert all("pkg:npm/" in note for note in notes)

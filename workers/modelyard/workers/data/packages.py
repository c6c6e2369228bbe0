"""Find files that an installed Python distribution ships, without importing it."""

from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from modelyard.workers.recipe import BadData


def find_package_files(package: str, pattern: str) -> list[tuple[str, Path]]:
    """Return (name inside the distribution, path) of the files a glob matches, sorted by name.

    Only files the distribution itself recorded at installation count, so no pattern reaches other parts of the
    machine. Raises `BadData` when the distribution is missing, the pattern leaves it, or nothing matches.
    """
    found = _distribution(package)
    place = PurePosixPath(pattern)
    if place.is_absolute() or ".." in place.parts:
        raise BadData(f"{pattern!r} leaves the package {package}; give a path inside it, e.g. `folder/*.txt`")
    root = Path(str(found.locate_file(""))).resolve()
    recorded = {file.as_posix() for file in found.files or []}
    matches = [(path.relative_to(root).as_posix(), path) for path in sorted(root.glob(pattern)) if path.is_file()]
    kept = [(name, path) for name, path in matches if name in recorded and path.resolve().is_relative_to(root)]
    if not kept:
        raise BadData(f"no file of the package {package} {found.version} matches {pattern!r}")
    return kept


def _distribution(package: str) -> Distribution:
    try:
        return distribution(package)
    except (PackageNotFoundError, ValueError) as error:
        raise BadData(f"the package {package} is not installed; install it with: pip install --no-deps {package}") from error

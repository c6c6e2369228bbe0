"""Read what commands are given as YAML or JSON: a job, a pipeline, a schedule or a sweep."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from modelyard.cli.errors import NotFound, WrongUsage

SHAPES = (
    "a job is {spec: {kind: …, …}}, a spec alone is {kind: …, …}, a pipeline is {name: …, jobs: {step: {spec: …}}}, "
    "several jobs are a list of those"
)


@dataclass(frozen=True)
class Submission:
    """What to send, and to which collection."""

    type: Literal["job", "pipeline", "batch"]
    body: dict[str, Any]


def read_submission(place: str) -> Submission:
    """Read a file, or standard input for `-`. Raises `NotFound` and `WrongUsage`."""
    name = "standard input" if place == "-" else place
    return parse_submission(_read_text(place), name)


def read_job(place: str) -> dict[str, Any]:
    """Read one job. Raises `NotFound` and `WrongUsage`."""
    submission = read_submission(place)
    if submission.type != "job":
        raise WrongUsage(f"{place} holds a {submission.type}, not one job: {SHAPES}")
    return submission.body


def read_schedule(place: str) -> dict[str, Any]:
    """Read a schedule from a file, or from standard input for `-`. Raises `NotFound` and `WrongUsage`."""
    name = "standard input" if place == "-" else place
    return _parse_mapping(_read_text(place), name, "a schedule is {name: …, cron: …, job: {…}} or {…, pipeline: {…}}")


def read_sweep(place: str) -> dict[str, Any]:
    """Read a sweep from a file, or from standard input for `-`. Raises `NotFound` and `WrongUsage`."""
    name = "standard input" if place == "-" else place
    return _parse_mapping(_read_text(place), name, "a sweep is {name: …, job: {spec: …}, parameters: {spec.…: {…}}}")


def parse_submission(text: str, name: str) -> Submission:
    """Decide by content what a document is. JSON is YAML, so one parser reads both."""
    document = _parse(text, name)
    if isinstance(document, list):
        return Submission("batch", {"jobs": [_job_of(each, f"{name}, entry {number}") for number, each in enumerate(document)]})
    document = _check_mapping(document, name, SHAPES)
    return Submission("pipeline", document) if "jobs" in document else Submission("job", _job_of(document, name))


def _job_of(document: Any, name: str) -> dict[str, Any]:
    mapping = _check_mapping(document, name, SHAPES)
    if "spec" in mapping:
        return _with_kind_in_spec(mapping, name)
    if "kind" in mapping:
        return {"spec": mapping}
    raise WrongUsage(f"{name} has none of `spec`, `kind` and `jobs`: {SHAPES}")


def _parse_mapping(text: str, name: str, shapes: str) -> dict[str, Any]:
    return _check_mapping(_parse(text, name), name, shapes)


class _Loader(yaml.SafeLoader):
    """Leaves times as they are written: JSON has none, and the API reads `2030-01-31T06:00:00+01:00` itself."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _parse(text: str, name: str) -> Any:
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 - it is a SafeLoader
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except yaml.YAMLError as error:
        raise WrongUsage(f"{name} is not valid YAML: {error}") from error
    except (TypeError, ValueError) as error:
        raise WrongUsage(f"{name} holds what JSON has no words for: {error}; write it as text, a number or a list") from error
    return document


def _check_mapping(document: Any, name: str, shapes: str) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise WrongUsage(f"{name} holds {type(document).__name__}, not a mapping: {shapes}")
    return document


def _with_kind_in_spec(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Accept `kind` beside `spec` as well as inside it."""
    if "kind" not in document:
        return document
    body = {key: value for key, value in document.items() if key != "kind"}
    inside = body["spec"].get("kind", document["kind"]) if isinstance(body["spec"], dict) else None
    if inside != document["kind"]:
        raise WrongUsage(f"{name} says kind {document['kind']!r} and, inside `spec`, {inside!r}: keep one of them")
    return {**body, "spec": {"kind": document["kind"], **body["spec"]}}


def _read_text(place: str) -> str:
    try:
        return sys.stdin.read() if place == "-" else Path(place).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {place}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsage(f"{place} cannot be read: {error}") from error

"""What determines the outputs of a job, as one hash: jobs with the same fingerprint make the same things."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

from modelyard.domain.specs.base import JobSpec, find_references

_sorted_json = json.JSONEncoder(sort_keys=True).encode


def fingerprint_of(spec: JobSpec, inputs: Mapping[str, Mapping[str, Any]], ranks: int, recipes: str | None = None) -> str | None:
    """SHA-256 over the spec, what its inputs contain, the number of processes, and the version of the recipes.

    How the spec refers to an input does not count, nor what the job is called; what its outputs are called does.
    None where that does not determine the outputs, or while the content of an input is unknown.
    """
    document: dict[str, Any] = spec.model_dump(mode="json")
    for found in find_references(spec):
        given = inputs.get(found.path, {})
        if not given.get("sha256"):
            return None
        _put(document, found.path, f"{given['name']} {given['sha256']}")
    if not spec.is_reproducible():
        return None
    # More processes see more data in one step: the same spec trains another model.
    whole = {"spec": document, "ranks": ranks, "recipes": recipes or _version()}
    return hashlib.sha256(_sorted_json(whole).encode()).hexdigest()


def _put(document: Any, path: str, value: str) -> None:
    *parents, last = path.split(".")
    for part in parents:
        document = document[int(part) if isinstance(document, list) else part]
    document[int(last) if isinstance(document, list) else last] = value


@cache
def _version() -> str:
    return version("modelyard")

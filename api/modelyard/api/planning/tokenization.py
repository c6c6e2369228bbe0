"""Rows as the recipes tokenize them: by a program of theirs, in a process that is ended if it takes too long.

Templates come with models from outside; here nothing of them runs, and the API imports no tokenizer.
"""

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from modelyard.api.dependencies import Platform
from modelyard.api.errors import ApiError
from modelyard.domain.registry.tables import Model

PROGRAM = "modelyard.workers.training.preview"
FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
FILE_BYTES = 64 * 2**20
"""The largest tokenizers known take a third of it."""
SECONDS = 30.0
AT_ONCE = threading.BoundedSemaphore(2)
"""Each takes a core and some hundred MB: more of them wait."""


def tokenize(platform: Platform, model: Model, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each row its `sequences`, `{"count", "prompt", "learned"}` each, with their `tokens` unless only counted.

    `request`: `{"spec", "rows", "counts_only", "answer"}`; the last is what rewards are tried on. Raises `ApiError`.
    """
    with AT_ONCE, tempfile.TemporaryDirectory(dir=platform.settings.folder("cache")) as scratch:
        folder = Path(scratch)
        for name in FILES:
            _copy(platform, model, name, folder)
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        answer = _run(folder)
    if "error" in answer:
        raise _refusal(model, answer["error"], request["spec"].get("chat_template"))
    shown: list[dict[str, Any]] = answer["rows"]
    return shown


def _copy(platform: Platform, model: Model, name: str, folder: Path) -> None:
    try:
        content = platform.store.read_start(model.artifact_key, name, FILE_BYTES + 1)
    except OSError:
        return  # the program says what is missing
    if len(content) > FILE_BYTES:
        raise _refusal(model, f"{name} is larger than {FILE_BYTES // 2**20} MiB")
    (folder / name).write_bytes(content)


def _run(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", PROGRAM, str(folder)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return {"error": f"tokenizing took longer than {SECONDS:.0f} s; the chat template may never end"}
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return {"error": f"the program that tokenizes ended with: {last[0]}"}
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _refusal(model: Model, reason: str, template: str | None = None) -> ApiError:
    """`template`: the job's own, which is then the first to look at."""
    message = f"Rows cannot be tokenized with model {model.name}@{model.version}: {reason}"
    field, value = ("spec.chat_template", template) if template else ("spec.model", model.name)
    return ApiError(422, "cannot_tokenize", message, field=field, value=value)

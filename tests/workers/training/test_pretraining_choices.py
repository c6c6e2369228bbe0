"""What a spec of pre-training may choose: each choice trains, and golden losses tell when one begins to train otherwise."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.workers.recipe import EXIT_BAD_DATA

SIZE = {"hidden_size": 32, "intermediate_size": 64, "layers": 2, "heads": 2, "key_value_heads": 1}
GOLDEN: dict[str, list[float]] = {}
"""Losses of the first two steps, as recorded when the choice was first made to work."""


def document(dataset: Path, inputs: dict[str, Path] | None = None, **spec: Any) -> dict[str, Any]:
    named = {"preset", "config", "model"} & set(spec)
    base = {} if named else {"architecture": SIZE}
    base |= {} if {"model", "tokenizer"} & set(spec) else {"vocabulary_size": 500}
    small = {"sequence_length": 32, "micro_batch_size": 4, "steps": 2, "evaluate_every": 2, "save_every": 2}
    return {
        "spec": {
            "kind": "pretrain", "name": "p", "dataset": "poems", **base, **small, "optimizer": {"learning_rate": 0.02}, **spec
        },
        "inputs": {name: {"path": str(path)} for name, path in {"dataset": dataset, **(inputs or {})}.items()},
        "resume_from": None,
    }  # fmt: skip


@pytest.fixture
def train(poems: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]) -> Callable[..., Any]:
    """Train to the end, or see it refused; return the run."""
    count = 0

    def run(ranks: int = 1, code: int = 0, inputs: dict[str, Path] | None = None, **spec: Any) -> Any:
        nonlocal count
        count += 1
        group = ranks_in(tmp_path / f"run-{count}")
        assert group.run("pretrain", document(poems, inputs, **spec), ranks=ranks) == [code] * ranks, group.logs
        return group

    return run

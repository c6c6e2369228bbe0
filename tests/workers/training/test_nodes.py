"""Training over two machines, each with a run folder of its own: parts of one checkpoint, laid together, continue both."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from modelyard.kit.storage import merge_folders, verify_manifest
from modelyard.workers.recipe import EXIT_SAVED
from tests.workers.training.conftest import SNOWMAN, free_port

pytestmark = pytest.mark.slow
CHECKPOINT = Path("checkpoints") / "step-00000001"


@dataclass
class Nodes:
    """Two machines with a rank each."""

    folder: Path
    logs: list[str] = field(default_factory=list)

    def run(self, module: str, document: dict[str, Any], stop: str | None = None) -> list[int]:
        """Run a recipe to its end on both; return the exit codes. `stop`: what the runner of node 0 asks from the start."""
        port = str(free_port())
        processes = [self._start(module, document, node, port, stop if node == 0 else None) for node in range(2)]
        self.logs = [process.communicate(timeout=250)[0] for process in processes]
        return [process.returncode for process in processes]

    def _start(
        self, module: str, document: dict[str, Any], node: int, port: str, stop: str | None
    ) -> "subprocess.Popen[str]":  # fmt: skip
        folder = self.node(node)
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(document))
        if stop:
            (folder / "control").write_text(stop)
        place = {"RANK": str(node), "LOCAL_RANK": "0", "GROUP_RANK": str(node), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "MODELYARD_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", f"modelyard.workers.training.recipes.{module}", "--run-dir", str(folder)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", **place, **meeting}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def node(self, node: int) -> Path:
        return self.folder / f"node-{node}"

    def events(self, node: int, type_: str) -> list[dict[str, Any]]:
        path = self.node(node) / "events.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [event for line in lines if (event := json.loads(line))["type"] == type_]


@pytest.fixture
def documents(tiny_model: Path, chat_dataset: Path, poems: Path) -> dict[str, Callable[[Path | None], dict[str, Any]]]:
    """What each recipe is told, by where it resumes."""
    tiny = {"hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 2, "key_value_heads": 2}
    small = {"steps": 3, "evaluate_every": 3, "save_every": 3, "deepspeed": {"zero_stage": 2}}
    chats = {"kind": "finetune", "name": "s", "model": "tiny", "dataset": "chats", "sequence_length": 128, **small}
    text = {"kind": "pretrain", "name": "p", "dataset": "poems", "vocabulary_size": 300, "sequence_length": 32, **small}
    inputs = {"sft": {"model": tiny_model, "dataset": chat_dataset}, "pretrain": {"dataset": poems}}

    def told(recipe: str, spec: dict[str, Any]) -> Callable[[Path | None], dict[str, Any]]:
        given = {name: {"path": str(path)} for name, path in inputs[recipe].items()}
        return lambda resume: {"spec": spec, "inputs": given, "resume_from": str(resume) if resume else None}

    return {"sft": told("sft", chats), "pretrain": told("pretrain", {**text, "architecture": tiny})}


@pytest.mark.parametrize("recipe", ["pretrain", "sft"])
def test_parts_of_a_checkpoint_continue_both(
    recipe: str, documents: dict[str, Callable[[Path | None], dict[str, Any]]], tmp_path: Path
) -> None:
    first, second = Nodes(tmp_path / "first"), Nodes(tmp_path / "second")
    assert first.run(recipe, documents[recipe](None), stop="drained") == [EXIT_SAVED, EXIT_SAVED], first.logs
    parts = [first.node(node) / CHECKPOINT for node in range(2)]
    files = [set(verify_manifest(part)["files"]) for part in parts]
    assert files[0] & files[1] == set()
    assert any("zero_pp_rank_1" in name for name in files[1]), "each node has the shards of its own ranks"
    assert [len(first.events(node, "checkpoint")) for node in range(2)] == [1, 1], "each node's runner hears of its part"
    assert first.events(1, "metric") == [], "only rank 0 reports"

    merge_folders(parts, tmp_path / "whole")
    assert second.run(recipe, documents[recipe](tmp_path / "whole")) == [0, 0], second.logs
    steps = [event["step"] for event in second.events(0, "metric") if "loss" in event["values"]]
    assert steps == [2, 3]
    assert second.events(0, "output")
    assert second.events(1, "output") == []


def test_both_go_back_from_a_row_that_breaks_the_loss(brittle_model: Path, chat_dataset: Path, tmp_path: Path) -> None:
    """The weights are in what rank 0 keeps; the other machine has none of it in its memory or on its disk."""
    dataset = tmp_path / "dataset"
    shutil.copytree(chat_dataset, dataset)
    rows = [json.loads(line) for line in (dataset / "train.jsonl").read_text().splitlines()][:12]
    rows[5]["messages"][0]["content"] += SNOWMAN
    (dataset / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = {"steps": 4, "evaluate_every": 4, "save_every": 4, "micro_batch_size": 2, "packing": False}
    spec = {"kind": "finetune", "name": "s", "model": "m", "dataset": "d", **small, "deepspeed": {"zero_stage": 2}}
    nodes = Nodes(tmp_path / "nodes")
    told = {"spec": spec, "inputs": {"model": {"path": str(brittle_model)}, "dataset": {"path": str(dataset)}}}
    assert nodes.run("sft", told) == [0, 0], nodes.logs
    (event,) = nodes.events(0, "rolled_back")
    assert event["to_step"] == 0
    assert nodes.events(1, "rolled_back") == [], "only rank 0 reports"
    losses = [(each["step"], each["values"]["loss"]) for each in nodes.events(0, "metric") if "loss" in each["values"]]
    redone = event["from_step"] - 1
    assert redone > 0, "choose another row: this one is read first"
    assert losses[:redone] == losses[redone : 2 * redone], "both are what they were"

"""What a plan predicts is what then happens: peak memory within 10 %, time within 25 %, on CPUs."""

import json
import os
import shutil
import socket
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from modelyard.domain.jobs.queues import Shape
from modelyard.domain.planning.durations import PastRun, predict_training
from modelyard.domain.planning.memory import predict_memory
from modelyard.domain.planning.reckoning import shorten
from modelyard.domain.planning.setups import Setup
from modelyard.domain.planning.tokens import Sample, predict_tokens, read_row
from modelyard.domain.planning.translation import read_setup
from modelyard.domain.planning.work import count_step_operations
from modelyard.domain.specs import parse_spec
from modelyard.workers.training.light_tokenizer import LightTokenizer
from modelyard.workers.training.preview import show
from modelyard.workers.training.previewed_rows import preview_rows

SMOLLM2_135M = {
    "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True, "max_position_embeddings": 8192,
}  # fmt: skip
SMALL = {"hidden_size": 384, "intermediate_size": 1024, "layers": 6, "heads": 6, "key_value_heads": 6}
PRETRAIN = {
    "kind": "pretrain",
    "name": "p",
    "dataset": "d",
    "vocabulary_size": 2000,
    "architecture": SMALL,
    "sequence_length": 128,
}
MIDDLE = {"hidden_size": 512, "intermediate_size": 1376, "layers": 8, "heads": 8, "key_value_heads": 8}
FINETUNE = {"kind": "finetune", "name": "f", "model": "m", "dataset": "d", "sequence_length": 768, "micro_batch_size": 1}
WIDE = {
    "vocab_size": 16384, "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 12, "num_attention_heads": 8,
    "num_key_value_heads": 4, "tie_word_embeddings": True, "max_position_embeddings": 512,
}  # fmt: skip
JUDGED: dict[str, dict[str, Any]] = {
    "preference": {"micro_batch_size": 4},
    "grpo": {"micro_batch_size": 1, "group_size": 8, "max_new_tokens": 24, "rewards": [{"name": "contains"}]},
}
pytestmark = pytest.mark.slow


def run(folder: Path, spec: dict[str, Any], inputs: dict[str, Path], ranks: int = 1) -> list[dict[str, float]]:
    """Run a recipe; return what each rank took."""
    folder.mkdir()
    document = {"spec": spec, "inputs": {name: {"path": str(path)} for name, path in inputs.items()}}
    (folder / "run.json").write_text(json.dumps(document))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1"}
    command = [sys.executable, "-m", "tests.workers.training.measured_rank", spec["kind"], str(folder)]
    path = os.pathsep.join(sys.path)
    processes = [
        subprocess.Popen(
            command, env={**shared, "MASTER_PORT": port, "RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": path},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(ranks)
    ]  # fmt: skip
    logs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * ranks, logs
    return [json.loads((folder / f"took-{rank}.json").read_text()) for rank in range(ranks)]


def setup_of(spec: dict[str, Any], ranks: int = 1, config: dict[str, Any] | None = None) -> Setup:
    setup = read_setup(parse_spec(spec), config, Shape(ranks, "cpu"), "cpu")
    assert setup is not None
    return setup


def difference(took: dict[str, float], predicted: int) -> float:
    """By how much the prediction is too high or too low, as a share; what was imported is on neither side."""
    return (predicted - took["imported"]) / (took["peak"] - took["imported"]) - 1


class TestMemory:
    @pytest.mark.parametrize(
        ("deepspeed", "ranks", "size"),
        [({"zero_stage": 0}, 1, SMALL), ({"zero_stage": 2}, 2, MIDDLE), ({"tensor_parallel_size": 2}, 2, MIDDLE)],
    )
    def test_pre_training(self, poems: Path, tmp_path: Path, deepspeed: dict[str, int], ranks: int, size: dict[str, int]) -> None:
        changes = {"architecture": size, "micro_batch_size": 16 // ranks, "steps": 3, "deepspeed": deepspeed}
        spec = {**PRETRAIN, **changes}
        predicted = predict_memory(setup_of(spec, ranks), "pretrain").bytes
        # What gloo holds at a time depends on how far ranks are apart: the most of several is what a job may take.
        took = [each for number in range(ranks) for each in run(tmp_path / f"run-{number}", spec, {"dataset": poems}, ranks)]
        most = max(took, key=lambda each: each["peak"] - each["imported"])
        assert abs(difference(most, predicted)) < 0.10, (took, predicted)

    def test_an_adapter_for_smollm2(self, tiny_model: Path, chat_dataset: Path, tmp_path: Path) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
        LlamaForCausalLM(LlamaConfig(**SMOLLM2_135M, eos_token_id=2, pad_token_id=0)).save_pretrained(model)
        spec = {**FINETUNE, "steps": 2}
        setup = setup_of(spec, config=json.loads((model / "config.json").read_text()))
        tokens = predict_tokens(setup, read_sample(spec, model, chat_dataset))
        assert tokens.learned_share is not None
        predicted = predict_memory(shorten(setup, tokens), "finetune").bytes
        (took,) = run(tmp_path / "run", spec, {"model": model, "dataset": chat_dataset})
        assert abs(difference(took, predicted)) < 0.10, (took, predicted)

    @pytest.mark.parametrize("kind", sorted(JUDGED))
    def test_answers_that_are_judged(self, tiny_model: Path, tmp_path: Path, kind: str) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
        LlamaForCausalLM(LlamaConfig(**WIDE, eos_token_id=2, pad_token_id=0)).save_pretrained(model)
        dataset = write_judged(tmp_path / "dataset", kind)
        spec = {**FINETUNE, "kind": kind, "steps": 2, "sequence_length": 384, **JUDGED[kind]}
        setup = setup_of(spec, config=json.loads((model / "config.json").read_text()))
        predicted = predict_memory(shorten(setup, predict_tokens(setup, read_sample(spec, model, dataset))), kind)
        assert predicted.here.name == "learning"
        (took,) = run(tmp_path / "run", spec, {"model": model, "dataset": dataset})
        assert abs(difference(took, predicted.bytes)) < 0.10, (took, predicted)


def write_judged(folder: Path, kind: str) -> Path:
    """A dataset of pairs of answers, or of problems, all as long: which of them two steps see makes no difference."""
    folder.mkdir()
    schema = "preference" if kind == "preference" else "problems"
    (folder / "dataset.json").write_text(json.dumps({"schema": schema}))
    for split, count in (("train", 64), ("heldout", 4)):
        rows = [write_row(schema, number) for number in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_row(schema: str, number: int) -> dict[str, Any]:
    asked = [{"role": "user", "content": f"{number:02} " + "apple river engine violin " * 15}]
    if schema == "problems":
        return {"messages": asked, "answer": "apple"}
    return {"messages": asked, "chosen": "planet garden harbour " * 20, "rejected": "winter letter castle " * 15}


def read_sample(spec: dict[str, Any], model: Path, dataset: Path) -> Sample:
    """The rows of a dataset as a plan sees them."""
    rows = [json.loads(line) for line in (dataset / "train.jsonl").read_text().splitlines()]
    tokenizer = LightTokenizer(model)
    found = preview_rows(parse_spec(spec), rows, tokenizer)
    return Sample([read_row(show(row, spec["sequence_length"], tokenizer, counts_only=True)) for row in found], of=len(rows))


class TestTime:
    def test_a_longer_run_of_the_same_shape(self, poems: Path, tmp_path: Path) -> None:
        """In CPU seconds, the least of three: what else the machine does can only add to them."""
        spec = {**PRETRAIN, "micro_batch_size": 2}
        took: dict[int, list[float]] = {6: [], 26: [], 66: []}
        for round_, steps in product(range(3), took):
            (found,) = run(tmp_path / f"run-{round_}-{steps}", {**spec, "steps": steps}, {"dataset": poems})
            took[steps].append(found["seconds"])
        short, medium, long = map(min, took.values())
        work = count_step_operations(setup_of(spec))
        past = PastRun(medium, 26, (medium - short) / 20, work)
        predicted = predict_training([past], "pretrain", 66, work, "cpu", 1)
        if any(sorted(same)[1] > 1.25 * min(same) for same in took.values()):
            pytest.skip(f"this machine is too busy elsewhere to time anything: CPU seconds of the same runs, by steps: {took}")
        assert predicted.expected_seconds == pytest.approx(long, rel=0.25), took

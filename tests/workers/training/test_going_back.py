"""What breaks a loss is left out: the run goes back to its last checkpoint, and on as one that never read it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.kit.storage import build_manifest, verify_manifest
from modelyard.workers.recipe import EXIT_NAN
from tests.workers.conftest import conversation
from tests.workers.training.conftest import SNOWMAN
from tests.workers.training.test_pretrain_recipe import document

Start = Callable[..., Any]


@pytest.fixture
def poisoned(poems: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]) -> Start:
    """Pre-train on data of which some breaks the loss; fails unless it ends as expected."""

    def start(
        name: str, calls: list[int], poison: str = "nan", poisoned_rank: int = 0, ranks: int = 1, code: int = 0, **spec: Any
    ) -> Any:  # fmt: skip
        group = ranks_in(tmp_path / name)
        poison_of = {"POISON_CALLS": ",".join(map(str, calls)), "POISON": poison, "POISON_RANK": str(poisoned_rank)}
        codes = group.run_poisoned(document(poems, **spec), ranks, **poison_of)
        assert codes == [code] * ranks, group.logs
        return group

    return start


def without(checkpoint: Path, folder: Path, *data_steps: int) -> Path:
    """Return a copy of a checkpoint that leaves data out; steps are counted from 1."""
    shutil.copytree(checkpoint, folder)
    progress = json.loads((folder / "progress.json").read_text())
    progress["skipped"] = [[step - 1, step - 1] for step in data_steps]
    (folder / "progress.json").write_text(json.dumps(progress))
    build_manifest(folder)
    return folder


def after(losses: dict[int, float], step: int) -> dict[int, float]:
    return {each: loss for each, loss in losses.items() if each > step}


class TestGoBack:
    SPEC: dict[str, Any] = {"steps": 7, "save_every": 3, "evaluate_every": 7, "gradient_accumulation_steps": 2}

    def test_goes_on_as_a_run_that_never_read_it(
        self, poisoned: Start, poems: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]
    ) -> None:
        # The second pass of the fifth step; and when the fourth was done again, what is read instead of it.
        run = poisoned("run", [10, 13], **self.SPEC)
        told = run.events("rolled_back")
        assert [(event["from_step"], event["to_step"], event["skipped_data_steps"]) for event in told] == [
            (5, 3, [5, 5]),
            (5, 3, [6, 6]),
        ]
        assert [(event["rollbacks"], event["max_rollbacks"], event["rank"]) for event in told] == [(1, 3, 0), (2, 3, 0)]
        assert "the loss is nan" in told[0]["why"]
        # What is lost the first time began with the checkpoint, the second time when it was back there.
        third, fourth = (next(each["at"] for each in run.events("metric") if each["step"] == step) for step in (3, 4))
        assert third <= told[0]["lost_from"] <= fourth < told[0]["lost_until"] == told[1]["lost_from"] < told[1]["lost_until"]
        assert "back at step 3; the data of steps 5 to 5 are left out (rollback 1 of at most 3)" in run.logs[0]
        assert run.checkpoints() == ["step-00000003", "step-00000006", "step-00000007"]
        assert not (run.folder / "rollback").exists()
        assert [event["step"] for event in run.events("metric") if "loss" in event["values"]] == [1, 2, 3, 4, 4, 4, 5, 6, 7]

        checkpoint = without(run.folder / "checkpoints" / "step-00000003", tmp_path / "checkpoint", 5, 6)
        reference = ranks_in(tmp_path / "reference")
        assert reference.run("pretrain", document(poems, checkpoint, **self.SPEC)) == [0], reference.logs
        for name in ("loss", "gradient_norm", "learning_rate", "validation_loss"):
            assert after(run.metric(name), 3) == reference.metric(name)

        # What was left out is left out by who resumes, too.
        resumed = ranks_in(tmp_path / "resumed")
        assert resumed.run("pretrain", document(poems, run.folder / "checkpoints" / "step-00000006", **self.SPEC)) == [0]
        assert resumed.metric("loss") == after(run.metric("loss"), 6)

    def test_names_the_rows_of_the_rank_and_goes_back_to_the_beginning(self, poisoned: Start, poems: Path) -> None:
        run = poisoned("run", [2], poison="gradient", poisoned_rank=1, ranks=2, steps=3, save_every=100)
        (event,) = run.events("rolled_back")
        assert (event["from_step"], event["to_step"], event["skipped_data_steps"]) == (2, 0, [2, 2])
        assert "the gradient norm nan" in event["why"] or "the gradient norm inf" in event["why"]
        losses = [(event["step"], event["values"]["loss"]) for event in run.events("metric") if "loss" in event["values"]]
        assert [step for step, _ in losses] == [1, 1, 2, 3]
        assert losses[0] == losses[1], "the weights are the first ones again"
        assert event["rank"] is None, "its loss was finite"
        assert len(event["rows"]) == 2 * 4
        assert run.metric("validation_loss")[3] < run.metric("validation_loss")[0]

    @pytest.mark.slow
    def test_ranks_that_share_matrices_go_back_together(
        self, poisoned: Start, poems: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]
    ) -> None:
        size = {"hidden_size": 32, "intermediate_size": 64, "layers": 2, "heads": 2, "key_value_heads": 2}
        spec = {"architecture": size, "deepspeed": {"tensor_parallel_size": 2}, "steps": 4, "save_every": 2, "evaluate_every": 4}
        run = poisoned("run", [3], poisoned_rank=1, ranks=2, **spec)
        (event,) = run.events("rolled_back")
        assert (event["from_step"], event["to_step"], event["skipped_data_steps"]) == (3, 2, [3, 3])
        checkpoint = without(run.folder / "checkpoints" / "step-00000002", tmp_path / "checkpoint", 3)
        reference = ranks_in(tmp_path / "reference")
        assert reference.run("pretrain", document(poems, checkpoint, **spec), ranks=2) == [0, 0], reference.logs
        for name in ("loss", "gradient_norm", "validation_loss"):
            assert after(run.metric(name), 2) == reference.metric(name)

    def test_fails_at_once_where_it_may_not_go_back(self, poisoned: Start) -> None:
        run = poisoned("run", [2], poisoned_rank=1, ranks=2, code=EXIT_NAN, steps=3, recovery={"on_not_finite": "fail"})
        assert run.events("rolled_back") == []
        (error,) = [event for event in run.events("error") if event["rank"] == 0]
        assert error["reason"] == "nan"
        assert "the loss is nan and the gradient norm" in error["message"]
        assert "at step 2, first on rank 1, which read the rows " in error["message"]
        assert "lower learning_rate 0.02, look at these rows, or raise recovery.max_rollbacks 3" in error["message"]

    @pytest.mark.slow
    def test_fails_after_so_many_rollbacks(self, poisoned: Start) -> None:
        run = poisoned("run", [3, 5], code=EXIT_NAN, steps=4, save_every=2, recovery={"max_rollbacks": 1})
        (event,) = run.events("rolled_back")
        assert (event["from_step"], event["to_step"]) == (3, 2)
        (error,) = run.events("error")
        assert "rolled back 1 times before" in error["message"]
        assert "at step 4" in error["message"]
        for name in run.checkpoints():
            verify_manifest(run.folder / "checkpoints" / name)

    @pytest.mark.slow
    @pytest.mark.parametrize(("zero_stage", "precision"), [(0, "fp32"), (1, "bf16"), (2, "fp32"), (3, "fp32")])
    def test_every_stage_is_what_it_was(
        self, poisoned: Start, poems: Path, tmp_path: Path, ranks_in: Callable[[Path], Any], zero_stage: int, precision: str
    ) -> None:
        spec = {"steps": 5, "save_every": 2, "evaluate_every": 5, "deepspeed": {"zero_stage": zero_stage}, "precision": precision}
        run = poisoned("run", [4], poisoned_rank=1, ranks=2, **spec)
        (event,) = run.events("rolled_back")
        assert (event["from_step"], event["to_step"], event["rank"]) == (4, 2, 1)
        assert len(event["rows"]) == 4, "those of one rank"
        checkpoint = without(run.folder / "checkpoints" / "step-00000002", tmp_path / "checkpoint", 4)
        reference = ranks_in(tmp_path / "reference")
        assert reference.run("pretrain", document(poems, checkpoint, **spec), ranks=2) == [0, 0], reference.logs
        for name in ("loss", "gradient_norm", "validation_loss"):
            assert after(run.metric(name), 2) == reference.metric(name)


class TestSpike:
    SPEC: dict[str, Any] = {"steps": 10, "save_every": 2, "evaluate_every": 10}
    RECOVERY: dict[str, Any] = {"spike_window": 8, "spike_steps": 2, "on_spike": "roll_back", "skip_steps": 3}

    def test_goes_back_to_before_it_rose(self, poisoned: Start) -> None:
        # After the sixth step a checkpoint is due, and postponed.
        run = poisoned("run", [6, 7], poison="40", **self.SPEC, recovery=self.RECOVERY)
        (event,) = run.events("rolled_back")
        assert (event["from_step"], event["to_step"], event["skipped_data_steps"]) == (7, 4, [6, 8])
        assert "stayed high for 2 steps" in event["why"]
        assert "step-00000006" in run.checkpoints(), "of the steps that were done again"
        assert max(run.metric("loss").values()) < 10, "what was repeated replaces what was measured before"

    @pytest.mark.slow
    def test_is_noted_once_and_training_goes_on(self, poisoned: Start) -> None:
        run = poisoned("run", [7, 8, 9], poison="40", **self.SPEC, recovery={**self.RECOVERY, "on_spike": "note"})
        assert [event["step"] for event in run.events("loss_spike")] == [8]
        assert run.events("rolled_back") == []
        assert run.metric("loss")[7] > 100


class TestTune:
    """A row that is really there, and breaks whatever reads it."""

    def test_a_planted_conversation_is_left_out(
        self, brittle_model: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]
    ) -> None:
        rows = [conversation(number) for number in range(12)]
        rows[5][0]["content"] += SNOWMAN
        dataset = write_rows(tmp_path / "chats", "chat", [{"messages": row} for row in rows])
        spec = {"kind": "finetune", "packing": False, "sequence_length": 128}
        self.check("sft", spec, dataset, brittle_model, tmp_path, ranks_in, row=5)

    @pytest.mark.slow
    def test_a_planted_pair_is_left_out(self, brittle_model: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]) -> None:
        rows: list[Any] = [
            {"messages": row[:1], "chosen": row[1]["content"], "rejected": "No."} for row in map(conversation, range(12))
        ]
        rows[5]["chosen"] += SNOWMAN
        dataset = write_rows(tmp_path / "pairs", "preference", rows)
        self.check(
            "preference", {"kind": "preference", "sequence_length": 128}, dataset, brittle_model, tmp_path, ranks_in, row=5
        )

    @pytest.mark.slow
    def test_a_planted_problem_is_left_out(self, brittle_model: Path, tmp_path: Path, ranks_in: Callable[[Path], Any]) -> None:
        rows: list[Any] = [
            {"messages": row[:1], "answer": str(number)} for number, row in enumerate(map(conversation, range(12)))
        ]
        rows[5]["messages"][0]["content"] += SNOWMAN
        dataset = write_rows(tmp_path / "problems", "problems", rows)
        rewards = [{"name": "length_penalty", "free_tokens": 2}]
        spec = {"kind": "grpo", "sequence_length": 128, "group_size": 2, "max_new_tokens": 6, "rewards": rewards}
        self.check("grpo", spec, dataset, brittle_model, tmp_path, ranks_in, row=5)

    def check(
        self, module: str, spec: dict[str, Any], dataset: Path, model: Path, tmp_path: Path, ranks_in: Any, row: int
    ) -> None:
        often = {"micro_batch_size": 2, "steps": 6, "save_every": 1, "evaluate_every": 6}
        told: dict[str, Any] = {
            "spec": {"name": "t", "model": "m", "dataset": "d", **spec, **often},
            "inputs": {"model": {"path": str(model)}, "dataset": {"path": str(dataset)}},
        }
        run, reference = ranks_in(tmp_path / "run"), ranks_in(tmp_path / "reference")
        assert run.run(module, told) == [0], run.logs
        (event,) = run.events("rolled_back")
        assert row in event["rows"]
        assert event["rank"] == 0
        back, (left_out, _) = event["to_step"], event["skipped_data_steps"]
        assert back == event["from_step"] - 1 == left_out - 1
        assert back > 0, "choose another row: this one is read first"
        checkpoint = without(run.folder / "checkpoints" / f"step-{back:08d}", tmp_path / "checkpoint", left_out)
        assert reference.run(module, {**told, "resume_from": str(checkpoint)}) == [0], reference.logs
        for name in ("loss", "gradient_norm", "validation_loss"):
            assert after(run.metric(name), back) == reference.metric(name)


def write_rows(folder: Path, schema: str, train: list[dict[str, Any]]) -> Path:
    """Write a prepared dataset; held out are its first rows."""
    folder.mkdir()
    for split, rows in (("train", train), ("heldout", train[:4])):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "dataset.json").write_text(json.dumps({"schema": schema}))
    return folder

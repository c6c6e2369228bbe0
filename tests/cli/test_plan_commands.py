"""`modelyard plan | preview`: what a person reads."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from factories import Factory, spec_of

from modelyard.cli.client import Client
from modelyard.cli.documents import read_job
from modelyard.cli.errors import WrongUsage
from modelyard.cli.plans import list_rows, say_notes, say_preview, say_seconds
from modelyard.kit.database import Database

Command = Callable[..., str]
ALONE: dict[str, Any] = {"second": None, "label": None, "rewarded": None}
NOW = datetime(2030, 1, 1, tzinfo=UTC)
PIECE = {"name": "weights", "bytes": 3 * 2**29, "formula": "1 × 2"}
PLAN: dict[str, Any] = {
    "memory": {
        "accelerator": "gpu", "moment": "learning", "rank_bytes": 2**31,
        "pieces": [PIECE], "offloaded_bytes": 2**29, "offloaded": [PIECE],
        "machines": [
            {"worker_id": "a@b", "needed_bytes": 2**31, "available_bytes": 2**30, "place": "gpu", "fits": False},
            {"worker_id": "c@d", "needed_bytes": 2**31, "available_bytes": None, "place": "gpu", "fits": None},
        ],
        "fits": False,
    },
    "disk": {"checkpoint": PIECE, "checkpoints_kept": 2, "outputs": PIECE, "total_bytes": 6 * 2**30},
    "tokens": {"per_step": 1024, "total": 102400, "dataset": 5000, "epochs": 20.48, "truncated_share": 0.125,
               "dropped_share": 0.01, "longest": 99, "basis": "from all rows"},
    "time": {"expected_seconds": 5400, "low_seconds": 3600, "high_seconds": 7200, "step_seconds": 1, "basis": "one past run"},
    "start": {"expected": "2030-01-01T00:10:00Z", "earliest": "2030-01-01T00:05:00Z", "basis": "from 3 past runs"},
    "cost": {"slots": 2, "expected_slot_hours": 3.0, "slot_hours_per_month": 10, "slot_hours_used": 8.0, "exceeds": "too much"},
    "held": None, "not_reckoned": None, "warnings": [], "probe": None,
    "suggestion": {"changes": {"spec.micro_batch_size": 2}, "why": ["smaller passes"], "rank_bytes": 2**29},
}  # fmt: skip


@pytest.fixture
def factory(sqlite_url: str) -> Iterator[Factory]:
    """Makes rows where the API looks."""
    database = Database(sqlite_url)
    yield Factory(database)
    database.dispose()


class TestSay:
    def test_a_plan_as_a_table(self) -> None:
        rows = {what.strip(): (much, why) for what, much, why in list_rows(PLAN, NOW)}
        assert rows["weights"] == ("1.5 GiB", "1 × 2")
        assert rows["a@b"] == ("2.0 GiB", "of 1.0 GiB, does not fit")
        assert rows["c@d"] == ("2.0 GiB", "did not say what it has, unknown")
        assert rows["cut off"] == ("12.5%", "of the rows lose their end; 1.0% are dropped")
        assert rows["time"] == ("1.5 h", "between 1.0 h and 2.0 h, one past run")
        assert rows["slot-hours"] == ("3", "2 slots; 8.00 of 10 are used this month")
        assert rows["start"] == ("in 10 min", "from 3 past runs")

    def test_what_to_do(self) -> None:
        assert say_notes(PLAN) == [
            "quota: too much",
            "It fits on no machine that serves its queue.",
            "what to do: spec.micro_batch_size: 2 (512.0 MiB per rank)",
            "  smaller passes",
        ]

    @pytest.mark.parametrize(("seconds", "text"), [(1.25, "1.2 s"), (90, "1.5 min"), (5400, "1.5 h"), (129_600, "1.5 d")])
    def test_seconds(self, seconds: float, text: str) -> None:
        assert say_seconds(seconds) == text

    @pytest.mark.parametrize(
        ("kind", "row", "line"),
        [
            ("finetune", {"beyond": 2, "dropped": False}, "row 7: 9 tokens. 2 do not fit and are cut off."),
            ("pretrain", {"beyond": 2, "dropped": False}, "row 7: 9 tokens. 2 do not fit and go on in the next sequence."),
            ("finetune", {"beyond": 2, "dropped": True}, "row 7: 9 tokens. It is left out: nothing to learn from is left of it."),
            ("finetune", {"beyond": 0, "dropped": False}, "row 7: 9 tokens."),
        ],
    )
    def test_rows(self, kind: str, row: dict[str, Any], line: str) -> None:
        tokens = [{"id": 1, "text": " a\n", "learned": False}, {"id": 2, "text": "b", "learned": True}]
        found = {"kind": kind, "dataset": "d@1", "tokenizer": "m@1", "sequence_length": 7}
        said = say_preview({**found, "data": [{"number": 7, "count": 9, "tokens": tokens, **ALONE, **row}]})
        assert said[2:] == [line, "  1 ·a⏎ [2 b]"]

    def test_pairs_ratings_and_rewards(self) -> None:
        rejected = {"count": 8, "beyond": 1, "tokens": [{"id": 2, "text": "b", "learned": True}]}
        found = {"kind": "preference", "dataset": "d@1", "tokenizer": "m@1", "sequence_length": 7}
        row = {**ALONE, "number": 7, "count": 5, "tokens": [], "beyond": 0, "dropped": False, "second": rejected}
        rewarded = {
            "answer": "5", "known": "4", "tokens": 2, "total": 0.5,
            "rewards": [{"name": "regex", "score": 1.0, "weight": 0.5}, {"name": "exact_answer", "score": 0.0, "weight": 2.0}],
        }  # fmt: skip
        others = {"second": None, "label": False, "rewarded": rewarded}
        said = say_preview({**found, "data": [row, {**row, **others}]})
        assert said[2:] == [
            "row 7: 5 tokens.",
            "  ",
            "  rejected: 8 tokens. 1 do not fit and are cut off.",
            "  [2 b]",
            "",
            "row 7: 5 tokens. A bad answer.",
            "  ",
            "  an answer of 2 tokens, '5', is rewarded with 0.5 = 0.5 × 1 regex + 2 × 0 exact_answer",
        ]


class TestCommands:
    def test_plan(self, client: Client, command: Command, factory: Factory, tmp_path: Path) -> None:
        file = tmp_path / "job.yaml"
        file.write_text(yaml.safe_dump(spec_of("pretrain")))
        factory.registered("dataset", "corpus")
        said = command("plan", str(file))
        assert "memory per rank" in said
        assert "no past run" in said
        assert json.loads(command("plan", str(file), "--json"))["kind"] == "pretrain"
        assert list(client.list_jobs(10)) == []
        assert "probe: job_" in command("plan", str(file), "--probe")
        assert [job["name"] for job in client.list_jobs(10)] == ["bard-probe"]

    @pytest.mark.usefixtures("client")
    def test_preview_says_what_is_missing(self, command: Command, factory: Factory, tmp_path: Path) -> None:
        file = tmp_path / "job.yaml"
        file.write_text(yaml.safe_dump({"spec": spec_of("pretrain")}))
        factory.registered("dataset", "corpus")
        with pytest.raises(WrongUsage, match="name a model whose tokenizer is used instead"):
            command("preview", str(file), "--rows", "2")

    def test_only_one_job(self, tmp_path: Path) -> None:
        file = tmp_path / "many.yaml"
        file.write_text(yaml.safe_dump([{"spec": spec_of("import")}]))
        with pytest.raises(WrongUsage, match="not one job"):
            read_job(str(file))

"""The quickstart as a newcomer runs it: a real model through its whole life, every figure measured."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelyard.cli.platform.leftovers import find_processes
from modelyard.cli.platform.record import read_record
from modelyard.cli.quickstart.closing import HEADLINES, choose_figures
from modelyard.cli.quickstart.conversation import QUESTIONS, Answer, summarize
from modelyard.cli.quickstart.stages import measure_seconds
from modelyard.domain.specs import KINDS
from tests.cli.conftest import REPOSITORY, Run


class TestFigures:
    def test_headlines_are_known_for_every_kind(self) -> None:
        assert set(HEADLINES) == set(KINDS)

    def test_unknown_kinds_show_all_they_have(self) -> None:
        assert choose_figures("dance", {"steps": 3}) == {"steps": 3}

    def test_seconds_of_a_service_end_when_it_is_ready(self) -> None:
        job = {"started_at": "2026-01-01T00:00:00Z", "ready_at": "2026-01-01T00:00:07.5Z", "finished_at": None}
        assert measure_seconds(job) == 7.5
        assert measure_seconds({**job, "started_at": None}) is None

    def test_what_a_client_saw(self) -> None:
        answers = [Answer("?", "!", 3, 1.0, None), Answer("?", "!", 4, 3.0, 0.5)]
        assert summarize(answers) == {
            "answered": 2,
            "streamed": 1,
            "median_seconds": 2.0,
            "median_first_token_seconds": 0.5,
            "completion_tokens": 7,
        }


@pytest.mark.slow
@pytest.mark.timeout(1800)
class TestQuickstart:
    def test_from_nothing_to_a_monitored_deployment(self, modelyard: Run, tmp_path: Path) -> None:
        done = modelyard("quickstart", "--data-dir", "yard", "--stop", "--json", timeout=1700)
        assert done.returncode == 0, done.stderr
        outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        stages = {stage["name"]: stage for stage in outcome["stages"]}
        pipeline = yaml.safe_load((REPOSITORY / "examples" / "quickstart.yaml").read_text())
        assert set(stages) == set(pipeline["jobs"])
        assert {stage["status"] for name, stage in stages.items() if name != "deploy"} == {"succeeded"}
        assert all(stage["seconds"] > 0 for stage in stages.values())

        figures = {name: stage["figures"] for name, stage in stages.items()}
        assert all(
            choose_figures(stage["kind"], stage["figures"]).keys() == set(HEADLINES[stage["kind"]]) for stage in stages.values()
        )
        assert figures["pretrain"]["validation_perplexity"] < figures["pretrain"]["validation_perplexity_first"] / 2
        assert figures["finetune"]["validation_loss"] < figures["finetune"]["validation_loss_first"]
        assert figures["evaluate"]["perplexity_candidate"] < figures["evaluate"]["perplexity_base"]
        assert figures["evaluate"]["gate_passed"] is True
        assert figures["monitor"]["requests"] >= pipeline["jobs"]["monitor"]["spec"]["min_interactions"]
        assert outcome["requests"]["answered"] == len(QUESTIONS)

        record = read_record(tmp_path / "yard")
        assert record is not None
        assert find_processes(record.platform_id, record.processes.values()) == []

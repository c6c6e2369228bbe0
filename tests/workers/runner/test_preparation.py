"""What a recipe is told at its start."""

import json
from pathlib import Path

from factories import Factory

from modelyard.domain.jobs.tables import Job
from modelyard.workers.runner.preparation import write_document


class TestWriteDocument:
    def test_every_node_is_told_where_to_pause(self, factory: Factory, tmp_path: Path) -> None:
        factory.registered()
        job: Job = factory.job("pretrain", pause_at_step=7)
        write_document(tmp_path, job, {}, None, {"port": 1})
        told = json.loads((tmp_path / "run.json").read_text())
        assert told["options"] == {"port": 1, "pause_at_step": 7}
        assert told["resume_from"] is None

"""Have a saved model judged on held-out rows, and remove it."""

import json
import shutil
import tempfile
from pathlib import Path

from bench.training.subjects import run_module

JUDGED_ROWS = 24


def judge(model: Path, tokenizer: Path, dataset: Path, sequence_length: int, rows: int = JUDGED_ROWS) -> float:
    """Return the mean loss per held-out token, in nats. The model's folder is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="modelyard-judge-") as made:
        given, found = Path(made, "given.json"), Path(made, "found.json")
        document = {
            "models": {"it": str(model)}, "tokenizer": str(tokenizer), "dataset": str(dataset), "rows": rows,
            "sequence_length": sequence_length, "found": str(found),
        }  # fmt: skip
        given.write_text(json.dumps(document))
        run_module("bench.training.judge", [str(given)], Path(made, "log"))
        loss: float = json.loads(found.read_text())["it"]
    shutil.rmtree(model)
    return loss

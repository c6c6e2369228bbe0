"""The page of an evaluation: escaped, and in need of nothing from outside."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from modelyard.workers.evaluation.report import write_report

INTERVAL = {"gain": 0.2, "low": 0.1, "high": 0.3, "confidence": 0.95}


def row(base_nll: float, answer: str) -> dict[str, Any]:
    side = {"nll": base_nll, "tokens": 3, "answer": answer, "rouge_l": 0.5, "exact_match": 0.0}
    return {"line": 1, "question": "<b>why</b>", "reference": "because", "base": side, "candidate": {**side, "nll": 1.0}}


def test_page_is_whole_and_escapes_what_models_say(tmp_path: Path) -> None:
    metrics = {"nll": 1.0, "perplexity": 2.7, "items": 2.0}
    document = {
        "name": "e",
        "base_id": "b",
        "candidate_id": "c",
        "items": 2,
        "precision": "fp32",
        "seed": 1,
        "truncated_items": 1,
        "metrics": {"base": metrics, "candidate": metrics},
        "gains": {"nll": INTERVAL},
        "gate_passed": True,
        "gate": {"reason": "it lies above"},
    }
    path = tmp_path / "report.html"
    write_report(path, document, [row(1.5, "<script>alert(1)</script>"), row(0.5, "fine")])
    page = path.read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "http" not in page
    assert "2 held-out items" in page
    drawings = [ElementTree.fromstring(f"<svg{part.split('</svg>')[0]}</svg>") for part in page.split("<svg")[1:]]  # noqa: S314
    assert [len(drawing.findall("rect")) for drawing in drawings] == [1, 2]
    assert "1 of 2 references became more likely" in page

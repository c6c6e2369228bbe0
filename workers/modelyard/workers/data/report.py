"""Write what was found in a dataset: `report.json` for programs, `report.html` for people."""

import json
from pathlib import Path
from typing import Any

from modelyard.workers.report import write_html

TEMPLATES = Path(__file__).with_name("templates")


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write both files. The page needs nothing from outside, and all text of the data is escaped."""
    text = json.dumps(report, ensure_ascii=False, indent=1, sort_keys=True)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    write_html(folder / "report.html", TEMPLATES, "dataset.html.jinja", report=report)

"""The model card written beside every model: what it is, what it was made from, how it was checked."""

from collections.abc import Mapping
from pathlib import Path

MODEL_CARD = "model_card.md"


def write_model_card(folder: Path, title: str, summary: str, sections: Mapping[str, Mapping[str, object]]) -> None:
    """Write `model_card.md`: a title, a paragraph, and one table of facts per section."""
    parts = [f"# {title}", summary]
    for heading, facts in sections.items():
        parts += [f"## {heading}", _table(facts)]
    (folder / MODEL_CARD).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _table(facts: Mapping[str, object]) -> str:
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in facts.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def _cell(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "\\|").split())

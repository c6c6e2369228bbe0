"""The model card written beside every model: what it is, what it was made from, how it was checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelyard.workers.recipe import Input, Run

MODEL_CARD = "model_card.md"


def write_model_card(folder: Path, title: str, summary: str, sections: Mapping[str, Mapping[str, object]]) -> None:
    """Write `model_card.md`: a title, a paragraph, and one table of facts per section."""
    parts = [f"# {title}", summary]
    for heading, facts in sections.items():
        parts += [f"## {heading}", _table(facts)]
    (folder / MODEL_CARD).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def describe_origin(run: Run[Any]) -> dict[str, dict[str, object]]:
    """Return the section of a card that says which job made the model, from what, by digests and by where one can ask."""
    facts: dict[str, object] = {"job": run.job_id} if run.job_id else {}
    for name, given in run.inputs.items():
        facts[name] = _name(given)
        facts |= {f"{name} id": given.id} if given.id else {}
        facts |= {f"{name} sha256": digest} if (digest := given.digest()) else {}
        facts |= {f"{name} lineage": f"/v1/{given.type}s/{given.id}/lineage"} if given.id and given.type else {}
    return {"Origin": facts}


def _name(given: Input) -> str:
    return f"{given.name}@{given.version}" if given.version else given.name or given.path.name


def _table(facts: Mapping[str, object]) -> str:
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in facts.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def _cell(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "\\|").split())

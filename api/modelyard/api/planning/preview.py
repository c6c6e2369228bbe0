"""Sampled rows of a job's data as its model would see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from modelyard.api.dependencies import Platform
from modelyard.api.errors import ApiError
from modelyard.api.planning.rows import Rows, read_rows
from modelyard.api.planning.schemas import PreviewedRow, PreviewedToken, PreviewPublic
from modelyard.api.planning.tokenization import tokenize
from modelyard.domain.jobs.admission import resolve_inputs
from modelyard.domain.jobs.submission import JobRequest, check_shape, kind_of
from modelyard.domain.planning.refusal import check_training
from modelyard.domain.planning.tokens import Row, Sample
from modelyard.domain.planning.translation import TRAINING_KINDS
from modelyard.domain.registry.repository import get_or_raise
from modelyard.domain.registry.tables import Dataset, Model

SAMPLED_ROWS = 1000
"""So many rows are tokenized to say how long those of the dataset are."""
TOKENIZER_PLACES = ("model", "tokenizer")
"""References of a spec that bring a tokenizer."""


@dataclass(frozen=True)
class Source:
    """What a training job reads."""

    kind: str
    dataset: Dataset
    model: Model | None
    """Its tokenizer is used; None where the job trains its own."""
    sequence_length: int
    rules: dict[str, Any]
    """How conversations become tokens: `loss_on`, `chat_template`."""

    def tokenize(self, platform: Platform, rows: list[dict[str, Any]], counts_only: bool) -> list[dict[str, Any]]:
        """Rows as the recipe would tokenize them. Raises `ApiError`."""
        assert self.model is not None
        request = {"rows": rows, "sequence_length": self.sequence_length, "counts_only": counts_only, **self.rules}
        return tokenize(platform, self.model, request)


def find_source(session: Session, project_id: str, request: JobRequest, tokenizer: str | None = None) -> Source:
    """Look up what a job names. `tokenizer`: a model to use instead. Raises `DomainError` as submitting would, and `ApiError`."""
    kind = kind_of(request)
    if kind not in TRAINING_KINDS:
        message = f"A {kind} job tokenizes nothing; give one of {', '.join(sorted(TRAINING_KINDS))}"
        raise ApiError(422, "nothing_to_preview", message, field="spec.kind", value=kind)
    check_shape(request)
    inputs = resolve_inputs(session, project_id, request.spec, {})
    check_training(session, request.spec, request.shape, inputs, asks_machines=False)
    model = get_or_raise(session, project_id, "model", tokenizer) if tokenizer else _find_model(session, inputs)
    assert model is None or isinstance(model, Model)
    asked = request.spec.model_dump()
    rules: dict[str, Any] = {name: asked[name] for name in ("loss_on", "chat_template") if name in asked}
    return Source(kind, session.get_one(Dataset, inputs["dataset"]["id"]), model, asked["sequence_length"], rules)


def preview(platform: Platform, source: Source, count: int) -> PreviewPublic:
    """Rows of the training split with ids, pieces and labels. Takes seconds; raises `ApiError`."""
    if source.model is None:
        message = (
            "The job trains a tokenizer of its own, so there are no tokens yet: name a model whose tokenizer is used instead"
        )
        raise ApiError(422, "no_tokenizer", message, field="tokenizer")
    found = read_rows(platform.store, source.dataset, count)
    shown = source.tokenize(platform, found.rows, counts_only=False)
    return PreviewPublic(
        kind=source.kind,
        dataset=f"{source.dataset.name}@{source.dataset.version}",
        tokenizer=f"{source.model.name}@{source.model.version}",
        sequence_length=source.sequence_length,
        rows_in_all=found.of,
        data=_show(found, shown, source.sequence_length),
    )


def take_sample(platform: Platform, source: Source) -> Sample | None:
    """Lengths of rows of a job's data; None where it has no tokenizer before it runs, or its data cannot be tokenized."""
    if source.model is None:
        return None
    try:
        found = read_rows(platform.store, source.dataset, SAMPLED_ROWS)
        rows = source.tokenize(platform, found.rows, counts_only=True)
    except ApiError:  # whoever wants to know why asks for a preview
        return None
    return Sample([Row(row["count"], row["prompt"], row["learned"]) for row in rows], found.of)


def _find_model(session: Session, inputs: Mapping[str, Mapping[str, Any]]) -> Model | None:
    place = next((place for place in TOKENIZER_PLACES if place in inputs), None)
    return session.get(Model, inputs[place]["id"]) if place else None


def _show(found: Rows, shown: list[dict[str, Any]], length: int) -> list[PreviewedRow]:
    return [
        PreviewedRow(
            number=number,
            tokens=[PreviewedToken(id=token, text=text, learned=learned) for token, text, learned in row["tokens"]],
            count=row["count"],
            prompt_tokens=row["prompt"],
            beyond=max(row["count"] - length, 0),
            dropped="messages" in source and row["learned"] == 0,
        )
        for number, source, row in zip(found.numbers, found.rows, shown, strict=True)
    ]

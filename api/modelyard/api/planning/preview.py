"""Sampled rows of a job's data as its model would see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from modelyard.api.dependencies import Platform
from modelyard.api.errors import ApiError
from modelyard.api.planning.rows import read_rows
from modelyard.api.planning.schemas import PreviewedRow, PreviewedSequence, PreviewedToken, PreviewPublic, RewardedPublic
from modelyard.api.planning.tokenization import tokenize
from modelyard.domain.jobs.admission import resolve_inputs
from modelyard.domain.jobs.submission import JobRequest, check_shape, kind_of
from modelyard.domain.planning.refusal import check_training
from modelyard.domain.planning.tokens import Sample, read_row
from modelyard.domain.planning.translation import TRAINING_KINDS
from modelyard.domain.registry.repository import get_or_raise
from modelyard.domain.registry.tables import Dataset, Model

SAMPLED_ROWS = 1000
"""So many rows are tokenized to say how long those of the dataset are."""
Row = dict[str, Any]
TOKENIZER_PLACES = ("model", "tokenizer")
"""References of a spec that bring a tokenizer."""


@dataclass(frozen=True)
class Source:
    """What a training job reads."""

    kind: str
    dataset: Dataset
    model: Model | None
    """Its tokenizer is used; None where the job trains its own."""
    spec: dict[str, Any]
    """As it was asked for: its rules say how rows become tokens."""
    sequence_length: int
    answer_tokens: int = 0
    """Tokens of a sequence that are kept free for an answer."""

    def tokenize(self, platform: Platform, rows: list[Row], counts_only: bool, answer: str | None = None) -> list[dict[str, Any]]:
        """Rows as the recipe would tokenize them. Raises `ApiError`."""
        assert self.model is not None
        request = {"spec": self.spec, "rows": rows, "counts_only": counts_only, "answer": answer}
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
    asked = request.spec.model_dump(mode="json", by_alias=True, exclude_unset=True) | {"kind": kind}
    dataset = session.get_one(Dataset, inputs["dataset"]["id"])
    length, answer = getattr(request.spec, "sequence_length"), getattr(request.spec, "max_new_tokens", 0)  # noqa: B009
    return Source(kind, dataset, model, asked, length, answer)


def preview(platform: Platform, source: Source, count: int, answer: str | None = None) -> PreviewPublic:
    """Rows of the training split with ids, pieces and labels. `answer`: what rewards are tried on. Takes seconds.

    Raises `ApiError`.
    """
    if answer is not None and source.kind != "grpo":
        message = f"A {source.kind} job has no rewards to try an answer on; leave answer out, or preview a grpo job"
        raise ApiError(422, "no_rewards", message, field="answer", value=answer)
    if source.model is None:
        message = (
            "The job trains a tokenizer of its own, so there are no tokens yet: name a model whose tokenizer is used instead"
        )
        raise ApiError(422, "no_tokenizer", message, field="tokenizer")
    found = read_rows(platform.store, source.dataset, count)
    shown = source.tokenize(platform, found.rows, counts_only=False, answer=answer)
    return PreviewPublic(
        kind=source.kind,
        dataset=f"{source.dataset.name}@{source.dataset.version}",
        tokenizer=f"{source.model.name}@{source.model.version}",
        sequence_length=source.sequence_length,
        rows_in_all=found.of,
        data=[_show(number, row, source) for number, row in zip(found.numbers, shown, strict=True)],
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
    return Sample([read_row(row) for row in rows], found.of)


def _find_model(session: Session, inputs: Mapping[str, Mapping[str, Any]]) -> Model | None:
    place = next((place for place in TOKENIZER_PLACES if place in inputs), None)
    return session.get(Model, inputs[place]["id"]) if place else None


def _show(number: int, row: dict[str, Any], source: Source) -> PreviewedRow:
    first, *rest = (_show_sequence(each, source.sequence_length - source.answer_tokens) for each in row["sequences"])
    # What a rating is measured against is another row's answer, and says nothing about this one.
    second = rest[0] if rest and row["label"] is None else None
    rewarded = row["rewarded"] and RewardedPublic.model_validate(row["rewarded"])
    return PreviewedRow(
        **first.model_dump(), number=number, dropped=row["dropped"], second=second, label=row["label"], rewarded=rewarded
    )


def _show_sequence(sequence: dict[str, Any], room: int) -> PreviewedSequence:
    return PreviewedSequence(
        tokens=[PreviewedToken(id=token, text=text, learned=learned) for token, text, learned in sequence["tokens"]],
        count=sequence["count"],
        prompt_tokens=sequence["prompt"],
        beyond=max(sequence["count"] - room, 0),
    )

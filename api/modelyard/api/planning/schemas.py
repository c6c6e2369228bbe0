"""Plans as clients see them."""

from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from modelyard.api.jobs.explanations import PredictedStart
from modelyard.api.jobs.schemas import JobPublic
from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.planning.pieces import Piece
from modelyard.domain.planning.plans import Plan, Training


class _Plain(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class PiecePublic(_Plain):
    """So many bytes, and why."""

    name: str
    bytes: int
    formula: str


class FitPublic(_Plain):
    """Whether the job fits on a machine; null where the machine did not say how much it has."""

    worker_id: str
    needed_bytes: int
    available_bytes: int | None
    place: str
    """`gpu`: memory of one GPU; `host`: memory of the machine, for all ranks there together."""
    fits: bool | None


class MemoryPublic(BaseModel):
    """Memory of one rank, when it takes most."""

    accelerator: str
    moment: str
    """`starting`, `answering` (sampling the answers that are learned from), `learning` or `merging` (of an adapter)."""
    rank_bytes: int
    """In the GPU's memory, or in the machine's where it computes on a CPU."""
    pieces: list[PiecePublic]
    offloaded_bytes: int
    """In the machine's memory, of a rank that computes on a GPU."""
    offloaded: list[PiecePublic]
    machines: list[FitPublic]
    fits: bool | None
    """Whether some machine has enough; null where none said how much it has."""


class DiskPublic(BaseModel):
    """Bytes in the artifact store."""

    checkpoint: PiecePublic
    checkpoints_kept: int
    outputs: PiecePublic
    total_bytes: int
    """The most there is at a time: one checkpoint more than are kept, while it is written."""


class TokensPublic(_Plain):
    """What a run learns from; null where nobody knows before it runs, and `basis` then says why."""

    per_step: int
    total: int
    dataset: int | None
    epochs: float | None
    truncated_share: float | None
    dropped_share: float | None
    longest: int | None
    learned_share: float | None
    """Share of tokens that are learned, the others being context."""
    basis: str


class SuggestionPublic(_Plain):
    """Changes that together make the job fit, by their place in the request."""

    changes: dict[str, Any]
    why: list[str]
    rank_bytes: int


class TimePublic(_Plain):
    """Seconds from start to end; null where nothing can be said, and `basis` then says why."""

    expected_seconds: float | None
    low_seconds: float | None
    high_seconds: float | None
    step_seconds: float | None
    basis: str


class CostPublic(_Plain):
    """Slot-hours, beside what the project may use; a slot is a GPU, or a CPU share."""

    slots: int
    expected_slot_hours: float | None
    low_slot_hours: float | None
    high_slot_hours: float | None
    max_slots: int | None
    slot_hours_per_month: float | None
    slot_hours_used: float | None
    exceeds: str | None
    """Which quota the job would break, with the figures."""


class PlanCreate(JobCreate):
    """A job to plan."""

    probe: bool = False
    """Run a few steps of it, as a job of their own that keeps nothing, and measure them."""


class MeasuredPublic(_Plain):
    """What a job really took, as far as it has run; null where that is not known."""

    peak_memory_bytes: int | None
    """The most any rank held: of its GPU, or of the machine's memory, libraries included."""
    step_seconds: float | None
    """Median time of a step."""
    seconds: float | None
    """From its last start to its end."""


class PlanPublic(BaseModel):
    """What would become of a job if it were submitted now. Nothing was created."""

    object: Literal["plan"] = "plan"
    kind: str
    name: str
    queue: str
    slots: int
    nodes: int
    parameters: int | None = None
    trainable_parameters: int | None = None
    memory: MemoryPublic | None = None
    disk: DiskPublic | None = None
    tokens: TokensPublic | None = None
    not_reckoned: str | None
    """Why there are no figures of memory, disk and tokens."""
    time: TimePublic
    start: PredictedStart
    held: str | None
    """What it would be held for."""
    cost: CostPublic
    suggestion: SuggestionPublic | None = None
    """A configuration that fits, where this one does not."""
    warnings: list[str]
    probe: JobPublic | None = None
    """The job that measures this plan, where one was asked for."""
    measured: MeasuredPublic | None = None
    """What the job took, where it is one that exists."""

    @classmethod
    def of(cls, plan: Plan, now: float) -> Self:
        """A plan with moments instead of seconds from now."""
        same = {name: getattr(plan, name) for name in ("kind", "name", "queue", "slots", "nodes", "held")}
        return cls(
            **same,
            **(_show_training(plan.training) if plan.training else {}),
            not_reckoned=plan.why_no_training,
            time=TimePublic.model_validate(plan.duration),
            start=PredictedStart.of(plan.start, now),
            cost=CostPublic.model_validate(plan.cost),
            warnings=list(plan.warnings),
        )


def _show_training(training: Training) -> dict[str, Any]:
    setup, found, disk = training.setup, training.requirement, training.disk
    return {
        "parameters": setup.parameters,
        "trainable_parameters": setup.trainable_parameters,
        "memory": MemoryPublic(
            accelerator=setup.accelerator,
            moment=found.memory.here.name,
            rank_bytes=found.memory.bytes,
            pieces=_show(found.memory.pieces),
            offloaded_bytes=found.memory.offloaded_bytes,
            offloaded=_show(found.memory.offloaded),
            machines=[FitPublic.model_validate(each) for each in found.machines],
            fits=found.fits,
        ),
        "disk": DiskPublic(
            checkpoint=PiecePublic.model_validate(disk.checkpoint),
            checkpoints_kept=disk.kept,
            outputs=PiecePublic.model_validate(disk.outputs),
            total_bytes=disk.total_bytes,
        ),
        "tokens": TokensPublic.model_validate(training.tokens),
        "suggestion": training.suggestion and SuggestionPublic.model_validate(training.suggestion),
    }


def _show(pieces: Iterable[Piece]) -> list[PiecePublic]:
    return [PiecePublic.model_validate(piece) for piece in pieces]


class PreviewedToken(BaseModel):
    """A token: its id, its text, and whether the model is to learn to say it."""

    id: int
    text: str
    """`�` stands for a part of a character."""
    learned: bool
    """False: masked, it is context only."""


class PreviewedSequence(BaseModel):
    """What goes through the model as one sequence."""

    tokens: list[PreviewedToken]
    """As many as one sequence takes."""
    count: int
    """Tokens of the whole."""
    prompt_tokens: int
    """Tokens before the first that is learned."""
    beyond: int
    """Tokens that do not fit into one sequence: of a conversation they are cut off, a text goes on in the next sequence, and a
    problem that leaves less than `max_new_tokens` for its answer is left out."""


class RewardPublic(BaseModel):
    """What one rule says of an answer."""

    name: str
    score: float
    weight: float


class RewardedPublic(BaseModel):
    """What the rewards of a job give an answer."""

    answer: str
    """The one given in the query, else the problem's own."""
    known: str
    """The problem's own."""
    tokens: int
    """Of the answer, its end counted."""
    rewards: list[RewardPublic]
    total: float
    """Each score times its weight, added up."""


class PreviewedRow(PreviewedSequence):
    """A row of the training split as the model would see it; of a pair the chosen answer."""

    number: int
    """Its line in the split, from 1."""
    dropped: bool
    """Whether the row is left out, for nothing to learn from fits."""
    second: PreviewedSequence | None = None
    """The rejected answer of a pair, after the same prompt."""
    label: bool | None = None
    """Of a rated answer, whether it is good."""
    rewarded: RewardedPublic | None = None
    """Of a problem, what the job's rewards say of an answer."""


class PreviewPublic(BaseModel):
    """Rows of a job's data as its model would see them. Nothing was created."""

    object: Literal["preview"] = "preview"
    kind: str
    dataset: str
    tokenizer: str
    """The model it comes with."""
    sequence_length: int
    rows_in_all: int
    data: list[PreviewedRow]

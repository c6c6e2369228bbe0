"""The spec of fine-tuning, and what it shares with other ways to tune a model."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from modelyard.domain.specs.base import DatasetRef, ModelRef, Seed, SpecModel
from modelyard.domain.specs.data import Name
from modelyard.domain.specs.optimization import CheckpointsSpec, ChosenOptimizerSpec, refuse_cut_matrices
from modelyard.domain.specs.reporting import ReportingSpec
from modelyard.domain.specs.training import MOST_SEQUENCES, MOST_STEPS, MOST_TOKENS, TrainingSpec

Method = Literal["full", "lora", "dora", "qlora"]
PEAK_LEARNING_RATE = {"full": 2e-5, "lora": 5e-4, "dora": 5e-4, "qlora": 5e-4}
"""Where the spec says nothing. All weights of a trained model bear about a tenth of what an adapter from zero needs."""


class LoraSpec(SpecModel):
    """The adapter of the methods `lora`, `dora` and `qlora` (Hu et al. 2021, arXiv:2106.09685)."""

    rank: int = Field(default=8, ge=1, le=65_536)
    alpha: int = Field(default=16, ge=1, le=1_000_000)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: Annotated[list[str], Field(min_length=1)] | Literal["all-linear"] = ["q_proj", "v_proj"]
    """Names of the linear layers that are adapted; `all-linear`: every one but the head."""


class TuningOptimizerSpec(ChosenOptimizerSpec):
    """An optimizer by name; its learning rate ends at zero."""

    floor: float = Field(default=0.0, ge=0, le=1)
    """The learning rate of the last step, as a share of `learning_rate`."""


def _default_optimizer(data: dict[str, Any]) -> TuningOptimizerSpec:
    return TuningOptimizerSpec(learning_rate=PEAK_LEARNING_RATE[data.get("method", "lora")], weight_decay=0.0)


class TuningSpec(TrainingSpec):
    """What all tuning of a chat model has in common: an adapter or all weights, learned step by step under DeepSpeed."""

    kind: str
    name: Name
    model: ModelRef
    dataset: DatasetRef
    method: Method = "lora"
    """`full`: all weights. `lora`: a low-rank adapter. `dora`: one that learns direction and magnitude apart (Liu et al. 2024,
    arXiv:2402.09353). `qlora`: LoRA on a base in 4 bits (Dettmers et al. 2023, arXiv:2305.14314), on a GPU with bitsandbytes."""
    lora: LoraSpec = LoraSpec()
    """Not used by `full`."""
    chat_template: str | None = Field(default=None, min_length=1, max_length=20_000)
    """Jinja text that replaces the model's own chat template, and is kept with the outputs; sandboxed by transformers."""
    sequence_length: int = Field(default=256, ge=16, le=MOST_TOKENS)
    """Tokens a conversation may have; longer ones are truncated, and counted."""
    packing: bool = True
    """Lay whole conversations end to end without one seeing another. Without it a batch is padded to its longest one."""
    micro_batch_size: int = Field(default=4, ge=1, le=MOST_SEQUENCES)
    """Sequences per rank and forward pass."""
    steps: int = Field(default=40, ge=1, le=MOST_STEPS)
    """Optimizer steps."""
    evaluate_every: int = Field(default=20, ge=1)
    save_every: int = Field(default=20, ge=1)
    checkpoints: CheckpointsSpec = CheckpointsSpec()
    optimizer: TuningOptimizerSpec = Field(default_factory=_default_optimizer)
    """The default learning rate is 5e-4, for `full` 2e-5."""
    seed: Seed = 17
    reporting: ReportingSpec = ReportingSpec()

    @model_validator(mode="after")
    def _optimizer_gets_whole_matrices(self) -> Self:
        refuse_cut_matrices(self.optimizer, self.deepspeed)
        if self.optimizer.needs_whole_matrices() and self.precision != "fp32":
            raise ValueError(
                f"optimizer `{self.optimizer.name}` needs whole matrices, which tuning in {self.precision} lays end to end; "
                "set precision fp32, or take adamw"
            )
        return self

    def zero_stage(self, ranks: int) -> int:
        """The ZeRO stage of a run of so many ranks."""
        return 0 if self.optimizer.needs_whole_matrices() else super().zero_stage(ranks)

    def wanted_schema(self) -> str:
        """Return the schema of the rows it learns from."""
        return "chat"

    def makes(self, output: str) -> bool:
        """Full fine-tuning has no adapter."""
        return output != "adapter" or self.method != "full"


class FinetuneSpec(TuningSpec):
    """Fine-tune a chat model on conversations: an adapter or all weights, under DeepSpeed."""

    kind: Literal["finetune"] = "finetune"
    loss_on: Literal["last_answer", "answers", "all"] = "last_answer"
    """What is learned: the last answer of each conversation, every answer of the assistant, or every token."""
    packing: bool = True
    """Fill sequences with several whole conversations that do not see each other. Without it a sequence is one conversation,
    and the batch is padded to its longest one."""

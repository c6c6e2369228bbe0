"""The spec of tuning by rewards: group relative policy optimization."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from modelyard.domain.specs.finetuning import TuningOptimizerSpec, TuningSpec
from modelyard.domain.specs.rewards import RewardedSpec
from modelyard.domain.specs.training import MOST_SEQUENCES, MOST_TOKENS

PEAK_LEARNING_RATE = {"full": 1e-6, "lora": 2e-5, "dora": 2e-5, "qlora": 2e-5}
"""Where the spec says nothing."""


def _default_optimizer(data: dict[str, Any]) -> TuningOptimizerSpec:
    return TuningOptimizerSpec(learning_rate=PEAK_LEARNING_RATE[data.get("method", "lora")], weight_decay=0.0)


class GrpoSpec(RewardedSpec, TuningSpec):
    """Tune a chat model by rewards for answers it samples itself (GRPO, Shao et al. 2024, arXiv:2402.03300)."""

    kind: Literal["grpo"] = "grpo"
    beta: float = Field(default=0.0, ge=0)
    """Weight of the divergence from the base, per token; above 0 it needs an adapter, and a second forward pass."""
    sequence_length: int = Field(default=256, ge=16, le=MOST_TOKENS)
    """Tokens a problem and its answer may have; problems that leave no room for an answer are dropped, and counted."""
    packing: bool = True
    """Learn from answers laid end to end without one seeing another. Without it they are padded to the longest one."""
    micro_batch_size: int = Field(default=1, ge=1, le=MOST_SEQUENCES)
    """Problems per rank and forward pass; each is answered `group_size` times."""
    optimizer: TuningOptimizerSpec = Field(default_factory=_default_optimizer)
    """The default learning rate is 2e-5, for `full` 1e-6."""

    def wanted_schema(self) -> str:
        """Return the schema of the rows it learns from."""
        return "problems"

    @model_validator(mode="after")
    def _can_sample(self) -> Self:
        if self.deepspeed.zero_stage == 3:
            raise ValueError("deepspeed.zero_stage 3: answers are sampled with all weights on every rank; choose 0, 1, 2 or auto")
        if self.compile == "on":
            raise ValueError("compile `on`: answers are sampled by the same layers, longer by every token; set compile to `off`")
        if self.max_new_tokens >= self.sequence_length:
            raise ValueError(
                f"max_new_tokens {self.max_new_tokens} leaves no room for a problem within sequence_length "
                f"{self.sequence_length}; raise sequence_length"
            )
        if self.beta and self.method == "full":
            raise ValueError("method full: with beta above 0 answers are compared with the base, which is gone; choose lora")
        return self

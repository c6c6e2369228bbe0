"""The spec of preference tuning."""

from typing import Any, Literal

from pydantic import Field, model_validator

from modelyard.domain.specs.finetuning import TuningOptimizerSpec, TuningSpec
from modelyard.domain.specs.training import MOST_SEQUENCES, MOST_TOKENS

PEAK_LEARNING_RATE = {"full": 5e-6, "lora": 5e-5, "dora": 5e-5, "qlora": 5e-5}
"""Where the spec says nothing: a tenth of what supervised tuning takes or less, since the model is to stay near what it was."""
OPTIONS = {"loss": "dpo", "label_smoothing": "dpo", "desirable_weight": "kto", "undesirable_weight": "kto"}
"""Field -> the one objective that reads it."""


def _default_optimizer(data: dict[str, Any]) -> TuningOptimizerSpec:
    return TuningOptimizerSpec(learning_rate=PEAK_LEARNING_RATE[data.get("method", "lora")], weight_decay=0.0)


class PreferenceSpec(TuningSpec):
    """Tune a chat model towards answers people prefer. The reference model is the base with the adapter switched off."""

    kind: Literal["preference"] = "preference"
    objective: Literal["dpo", "orpo", "kto"] = "dpo"
    """`dpo`: pairs, near a reference (Rafailov et al. 2023, arXiv:2305.18290). `orpo`: pairs, without a reference (Hong et al.
    2024, arXiv:2403.07691). `kto`: single answers rated good or not (Ethayarajh et al. 2024, arXiv:2402.01306). The dataset's
    schema is `preference`, for `kto` it is `rated`."""
    beta: float = Field(default=0.1, gt=0)
    """How much a step away from the reference counts; with `orpo`, the weight of the odds against the likelihood."""
    loss: Literal["sigmoid", "hinge", "ipo"] = "sigmoid"
    """Of `dpo`: logistic, hinge (Zhao et al. 2023, arXiv:2305.10425), or squared and per token (Azar et al. 2023,
    arXiv:2310.12036)."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Of `dpo` with `sigmoid`: share of pairs that may be the wrong way round."""
    desirable_weight: float = Field(default=1.0, gt=0)
    """Of `kto`: weight of good answers. Raise it where they are few."""
    undesirable_weight: float = Field(default=1.0, gt=0)
    """Of `kto`: weight of bad answers."""
    sequence_length: int = Field(default=256, ge=16, le=MOST_TOKENS)
    """Tokens a prompt and an answer may have; longer ones are truncated, and counted."""
    packing: bool = True
    """Lay the answers of a batch end to end without one seeing another. Without it a batch is padded to its longest one."""
    micro_batch_size: int = Field(default=4, ge=1, le=MOST_SEQUENCES)
    """Pairs (with `kto`: rated answers) per rank and forward pass."""
    optimizer: TuningOptimizerSpec = Field(default_factory=_default_optimizer)
    """The default learning rate is 5e-5, for `full` 5e-6."""

    def wanted_schema(self) -> str:
        """Return the schema of the rows it learns from."""
        return "rated" if self.objective == "kto" else "preference"

    @model_validator(mode="after")
    def _has_a_reference(self) -> "PreferenceSpec":
        if self.method == "full" and self.objective != "orpo":
            raise ValueError(
                f"method full: {self.objective} compares with the base, which is gone when all weights learn; "
                "choose lora, or objective orpo"
            )
        return self

    @model_validator(mode="after")
    def _reads_what_is_given(self) -> "PreferenceSpec":
        for name, objective in OPTIONS.items():
            if self.objective != objective and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} is an option of objective {objective} only, and this one is {self.objective}; leave it out"
                )
        if self.label_smoothing and self.loss != "sigmoid":
            raise ValueError(f"label_smoothing belongs to loss sigmoid, and this one is {self.loss}; leave it out")
        return self

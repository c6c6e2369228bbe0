"""The spec of fine-tuning."""

from typing import Literal

from pydantic import Field

from modelyard.domain.specs.base import DatasetRef, JobSpec, ModelRef, SpecModel
from modelyard.domain.specs.data import Name
from modelyard.domain.specs.optimization import DeepSpeedSpec, OptimizerSpec


class LoraSpec(SpecModel):
    """Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685)."""

    rank: int = Field(default=8, ge=1)
    alpha: int = Field(default=16, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: list[str] = ["q_proj", "v_proj"]


class FinetuneSpec(JobSpec):
    """Fine-tune a chat model with LoRA on completions only, under DeepSpeed."""

    kind: Literal["finetune"] = "finetune"
    name: Name
    model: ModelRef
    dataset: DatasetRef
    lora: LoraSpec = LoraSpec()
    sequence_length: int = Field(default=256, ge=16)
    """Tokens a conversation may have; longer ones are truncated, and counted."""
    micro_batch_size: int = Field(default=4, ge=1)
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    steps: int = Field(default=40, ge=1)
    evaluate_every: int = Field(default=20, ge=1)
    save_every: int = Field(default=20, ge=1)
    optimizer: OptimizerSpec = OptimizerSpec(learning_rate=5e-4, weight_decay=0.0)
    deepspeed: DeepSpeedSpec = DeepSpeedSpec()
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 17

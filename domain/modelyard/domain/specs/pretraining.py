"""The spec of pre-training."""

from typing import Literal

from pydantic import Field

from modelyard.domain.specs.base import DatasetRef, JobSpec, SpecModel
from modelyard.domain.specs.data import Name
from modelyard.domain.specs.optimization import DeepSpeedSpec, OptimizerSpec


class ArchitectureSpec(SpecModel):
    """A Llama-architecture decoder."""

    hidden_size: int = Field(default=256, ge=16)
    intermediate_size: int = Field(default=688, ge=16)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=4, ge=1)
    key_value_heads: int = Field(default=4, ge=1)


class PretrainSpec(JobSpec):
    """Train a byte-level BPE tokenizer and a Llama-architecture model from scratch with DeepSpeed."""

    kind: Literal["pretrain"] = "pretrain"
    name: Name
    dataset: DatasetRef
    vocabulary_size: int = Field(default=4096, ge=300, le=200_000)
    architecture: ArchitectureSpec = ArchitectureSpec()
    sequence_length: int = Field(default=128, ge=16)
    """Tokens per packed sequence."""
    micro_batch_size: int = Field(default=8, ge=1)
    """Sequences per rank and forward pass."""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    steps: int = Field(default=300, ge=1)
    """Optimizer steps."""
    evaluate_every: int = Field(default=50, ge=1)
    save_every: int = Field(default=50, ge=1)
    optimizer: OptimizerSpec = OptimizerSpec()
    deepspeed: DeepSpeedSpec = DeepSpeedSpec(zero_stage=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 17

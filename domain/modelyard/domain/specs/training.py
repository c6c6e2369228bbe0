"""Specs of the training stages."""

from typing import Any, Literal

from pydantic import Field

from modelyard.domain.specs.base import DatasetRef, JobSpec, ModelRef, SpecModel
from modelyard.domain.specs.data import Name


class DeepSpeedSpec(SpecModel):
    """The few DeepSpeed choices most runs need; `override` is merged over the configuration derived from them."""

    zero_stage: Literal[0, 1, 2, 3] = 0
    override: dict[str, Any] = {}
    """Any DeepSpeed configuration keys; they win over what is derived."""


class OptimizerSpec(SpecModel):
    """AdamW with linear warm-up and cosine decay."""

    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    warmup_ratio: float = Field(default=0.05, ge=0, le=1)
    max_grad_norm: float = Field(default=1.0, gt=0)


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

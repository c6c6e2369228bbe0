"""From what a user asks for to a training run as numbers. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from modelyard.domain.jobs.queues import Shape as Slots
from modelyard.domain.planning.setups import Accelerator, Adapter, Setup
from modelyard.domain.planning.shapes import Shape, read_shape
from modelyard.domain.specs.base import JobSpec
from modelyard.domain.specs.finetuning import TuningSpec
from modelyard.domain.specs.grpo import GrpoSpec
from modelyard.domain.specs.preference import PreferenceSpec
from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.domain.specs.sequence_parallel import SharingDeepSpeedSpec

TRAINING_KINDS = frozenset({"pretrain", "finetune", "preference", "grpo"})
"""Kinds whose memory, work and tokens follow from a formula."""


def read_setup(spec: JobSpec, config: Mapping[str, Any] | None, slots: Slots, accelerator: Accelerator) -> Setup | None:
    """The run a spec asks for; None where there is no formula. `config`: the base model's `config.json`, where there is one."""
    if isinstance(spec, PretrainSpec):
        return _pretraining(spec, config, slots, accelerator)
    shape = read_shape(config) if config is not None else None
    if isinstance(spec, TuningSpec) and shape is not None:
        return _tuning(spec, shape, slots, accelerator)
    return None


def _pretraining(spec: PretrainSpec, config: Mapping[str, Any] | None, slots: Slots, accelerator: Accelerator) -> Setup | None:
    shape = read_shape(config) if config is not None else shape_of_new_model(spec)
    return _training(spec, shape, slots, accelerator) if shape is not None else None


def shape_of_new_model(spec: PretrainSpec, vocabulary_size: int | None = None) -> Shape | None:
    """The shape of the model a pre-training makes; None where there is no formula, or where it goes on with another model.

    `vocabulary_size`: of a tokenizer that is taken over.
    """
    tokens = vocabulary_size or spec.tokens_to_train()
    if spec.config is not None:
        return _read_whole({"vocab_size": tokens, **spec.config})
    size = spec.shape()
    if size is None:
        return None
    return Shape(
        vocabulary_size=tokens,
        hidden_size=size.hidden_size,
        intermediate_size=size.intermediate_size,
        layers=size.layers,
        heads=size.heads,
        key_value_heads=size.key_value_heads,
        head_size=size.hidden_size // size.heads,
        context_length=spec.sequence_length,
        ties_embeddings=size.tied_embeddings,
    )


def _read_whole(config: Mapping[str, Any]) -> Shape | None:
    """A configuration a user wrote: what it leaves out has defaults, which are known for Llama only."""
    is_whole = config.get("model_type") == "llama" or {"num_key_value_heads", "head_dim"} <= set(config)
    return read_shape(config) if is_whole else None


def _tuning(spec: TuningSpec, shape: Shape, slots: Slots, accelerator: Accelerator) -> Setup:
    setup = _training(spec, shape, slots, accelerator, _adapter(spec))
    if isinstance(spec, PreferenceSpec):
        setup = replace(setup, answers=2, asks_base=spec.objective != "orpo")
    elif isinstance(spec, GrpoSpec):
        setup = replace(setup, answers=spec.group_size, new_tokens=spec.max_new_tokens, asks_base=spec.beta > 0)
    if not spec.packing:
        return replace(setup, layout="padded")
    return replace(setup, layout="packed" if setup.answers == 1 else "whole")


def _adapter(spec: TuningSpec) -> Adapter | None:
    targets = spec.lora.target_modules
    if spec.method == "full":
        return None
    return Adapter(
        rank=spec.lora.rank,
        targets=(targets,) if isinstance(targets, str) else tuple(targets),
        has_magnitudes=spec.method == "dora",
        is_base_quantized=spec.method == "qlora",
    )


def _training(
    spec: PretrainSpec | TuningSpec, shape: Shape, slots: Slots, accelerator: Accelerator, adapter: Adapter | None = None
) -> Setup:
    ranks = slots.slots * slots.nodes
    sharing = spec.deepspeed if isinstance(spec, PretrainSpec) else SharingDeepSpeedSpec()
    return Setup(
        shape=shape,
        micro_batch_size=spec.micro_batch_size,
        sequence_length=spec.sequence_length,
        steps=spec.steps,
        accumulation=spec.rounds(ranks),
        ranks=ranks,
        ranks_per_host=slots.slots,
        sequence_parallel_size=sharing.sequence_parallel_size,
        tensor_parallel_size=sharing.tensor_parallel_size,
        accelerator=accelerator,
        precision=spec.precision,
        zero_stage=spec.zero_stage(ranks),
        offload=spec.deepspeed.offload,
        keeps_global_batch=spec.global_batch_size is not None,
        saves_between_steps=spec.save_every < spec.steps,
        keeps_first_state=spec.recovery.may_roll_back(),
        optimizer=spec.optimizer.name,
        checkpoints_activations=spec.activation_checkpointing,
        kept_checkpoints=min(spec.checkpoints.keep_last + spec.checkpoints.keep_best, -(-spec.steps // spec.save_every)),
        adapter=adapter,
    )

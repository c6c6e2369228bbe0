"""The DeepSpeed engine of a pre-training run, with as little between two steps as it allows. Importing this imports torch."""

from typing import Any

import deepspeed

from modelyard.domain.specs.architectures import PLAIN_MODEL_TYPES
from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.workers.recipe import Run
from modelyard.workers.training.deepspeed_config import blame_override, check_precision, derive_config
from modelyard.workers.training.documents import choose_attention, choose_joined_attention
from modelyard.workers.training.gradient_norm import keep_gradient_norm
from modelyard.workers.training.kernels import apply_kernels
from modelyard.workers.training.light_layers import lighten_layers
from modelyard.workers.training.optimizers import build_optimizer
from modelyard.workers.training.tensor_parallel import check_cuts, settle_cuts
from modelyard.workers.training.trained_model import OWN_LOGITS, TrainedModel


def start_engine(run: Run[PretrainSpec], model: Any) -> Any:
    """Return the engine that trains a model of transformers; its module is a `TrainedModel`. Raises `BadData`."""
    spec = run.spec
    check_precision(run)
    module = _prepare(run, model)
    config = derive_config(spec, run.device, run.world_size)
    optimizer = None
    if "optimizer" not in spec.deepspeed.override:  # what the user overrides is DeepSpeed's to build
        optimizer = build_optimizer(spec.optimizer, module)
        del config["optimizer"]
    with blame_override(spec):
        engine, *_ = deepspeed.initialize(model=module, model_parameters=module.parameters(), optimizer=optimizer, config=config)
    if spec.deepspeed.tensor_parallel_size > 1:
        settle_cuts(engine)
    keep_gradient_norm(engine)
    if engine.zero_optimization_stage() == 0:
        _make_lean(engine, run.world_size)
    return engine


def _make_lean(engine: Any, ranks: int) -> None:
    """Leave out what DeepSpeed does for cases this is not: together a fifth of a very small step."""
    parameters = list(engine.module.parameters())

    def drop_gradients() -> None:
        for parameter in parameters:
            parameter.grad = None

    engine.zero_grad = drop_gradients  # its own looks for all parameters by name, each step
    if ranks == 1:
        # There is nobody to add gradients up with: they would be copied into one buffer and back.
        engine.enable_backward_allreduce = False


def _prepare(run: Run[PretrainSpec], model: Any) -> TrainedModel:
    spec = run.spec
    check_cuts(model, spec.deepspeed.tensor_parallel_size)
    if spec.deepspeed.sequence_parallel_size > 1:
        from modelyard.workers.training.sequence_parallel import share_sequences

        share_sequences(model, spec, run.device)
    elif spec.documents == "apart":
        model.set_attn_implementation(
            choose_attention(model, run.device, spec.precision, spec.sequence_length, compiles=compiles(run))
        )
    elif attention := choose_joined_attention(model, spec.sequence_length):
        model.set_attn_implementation(attention)
    if run.device == "cpu" and spec.kernels == "auto" and not compiles(run):
        lighten_layers(model)
    if spec.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    apply_kernels(run, model, compiles=compiles(run))
    head = model.get_output_embeddings()
    has_plain_head = model.config.model_type in PLAIN_MODEL_TYPES - OWN_LOGITS and head is model.lm_head and head.bias is None
    return TrainedModel(model, has_plain_head=has_plain_head).train()


def compiles(run: Run[PretrainSpec]) -> bool:
    """Whether the layers are compiled."""
    if run.spec.deepspeed.ranks_per_group() > 1:
        return False
    choice = run.spec.compile
    return choice == "on" or (choice == "auto" and run.device == "cuda" and run.spec.zero_stage(run.world_size) < 3)

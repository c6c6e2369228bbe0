"""The DeepSpeed engine of a pre-training run, with as little between two steps as it allows. Importing this imports torch."""

import os
from typing import Any

import deepspeed
import torch

from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.workers.recipe import BadData, Run
from modelyard.workers.training.deepspeed_config import derive_config
from modelyard.workers.training.documents import PLAIN_MODEL_TYPES, choose_attention
from modelyard.workers.training.gradient_norm import keep_gradient_norm
from modelyard.workers.training.optimizers import build_optimizer
from modelyard.workers.training.trained_model import OWN_LOGITS, TrainedModel


def start_engine(run: Run[PretrainSpec], model: Any) -> Any:
    """Return the engine that trains a model of transformers; its module is a `TrainedModel`. Raises `BadData`."""
    spec = run.spec
    if spec.precision == "fp16" and run.device != "cuda":
        raise BadData("precision fp16 needs a GPU: a CPU has no 16-bit kernels for it that are exact enough; take bf16 or fp32")
    module = _prepare(run, model)
    config = derive_config(spec, run.device, run.world_size)
    optimizer = None
    if "optimizer" not in spec.deepspeed.override:  # what the user overrides is DeepSpeed's to build
        optimizer = build_optimizer(spec.optimizer, module)
        del config["optimizer"]
    engine, *_ = deepspeed.initialize(model=module, model_parameters=module.parameters(), optimizer=optimizer, config=config)
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
    if spec.documents == "apart":
        model.set_attn_implementation(
            choose_attention(model, run.device, spec.precision, spec.sequence_length, compiles=compiles(run))
        )
    if spec.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if spec.kernels == "auto" and run.device == "cuda" and not compiles(run):
        _apply_liger(model)
    head = model.get_output_embeddings()
    has_plain_head = model.config.model_type in PLAIN_MODEL_TYPES - OWN_LOGITS and head is model.lm_head and head.bias is None
    return TrainedModel(model, has_plain_head=has_plain_head).train()


def _apply_liger(model: Any) -> None:
    try:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance
    except ImportError:
        return
    # The loss is ours.
    _apply_liger_kernel_to_instance(model, fused_linear_cross_entropy=False, cross_entropy=False)


def compiles(run: Run[PretrainSpec]) -> bool:
    """Whether the layers are compiled."""
    choice = run.spec.compile
    return choice == "on" or (choice == "auto" and run.device == "cuda" and run.spec.zero_stage(run.world_size) < 3)


def compile_layers(engine: Any) -> None:
    """Compile one layer for all: they are alike, so a model of any depth costs the compile time of one."""
    if "MODELYARD_CACHE_DIR" in os.environ:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(os.environ["MODELYARD_CACHE_DIR"], "compiled"))
    lists = [module for module in engine.module.modules() if isinstance(module, torch.nn.ModuleList)]
    for layer in max(lists, key=len):
        layer.compile(dynamic=False)

"""The model a run trains: new by a spec, or one of the registry; and how its weights leave DeepSpeed."""

import sys
from pathlib import Path
from typing import Any

from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.workers.recipe import BadData
from modelyard.workers.training.tensor_parallel import gather_weights, ranks_per_matrix

LEGACY_SETTINGS = frozenset({"rope_theta", "rope_scaling", "partial_rotary_factor", "torch_dtype", "dtype"})
"""What older files say, and transformers still reads."""


def build_model(spec: PretrainSpec, tokenizer: Any, base: Path | None = None) -> Any:
    """Return the model in fp32. A new one has random weights: the same for the same seed, on every rank.

    `base`: folder of the model to train further. Raises `BadData`.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModelForCausalLM

    if base is not None:
        return _load_base(spec, base, len(tokenizer))
    settings = _llama(spec) if spec.config is None else dict(spec.config)
    model_type = settings.pop("model_type")
    if settings.get("vocab_size", len(tokenizer)) < len(tokenizer):
        raise BadData(
            f"config.vocab_size {settings['vocab_size']} is less than the {len(tokenizer)} tokens of the tokenizer; leave it out"
        )
    _tell_unknown(model_type, settings)
    ends = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    torch.manual_seed(spec.seed)
    try:
        config = AutoConfig.for_model(model_type, **{"vocab_size": len(tokenizer), **settings, **ends, "use_cache": False})
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except (ValueError, TypeError, AttributeError, RuntimeError, KeyError, ZeroDivisionError, StrictDataclassError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadData(f"config: no {model_type} can be built from it ({said}); mend that setting, or leave it out") from error
    _check_heads(config)
    _check_context(spec, model)
    return model


def _llama(spec: PretrainSpec) -> dict[str, Any]:
    size = spec.shape()
    assert size is not None
    return {
        "model_type": "llama",
        "hidden_size": size.hidden_size,
        "intermediate_size": size.intermediate_size,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.key_value_heads,
        "max_position_embeddings": spec.sequence_length,
        "tie_word_embeddings": size.tied_embeddings,
        "rope_parameters": {"rope_type": "default", "rope_theta": size.rope_theta},
    }


def _load_base(spec: PretrainSpec, folder: Path, vocabulary: int) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise BadData(f"{folder.name} cannot be trained further as a causal language model: {error}") from error
    _check_context(spec, model)
    rows = model.get_input_embeddings().num_embeddings
    if rows < vocabulary:
        raise BadData(f"the model knows {rows} tokens, but its tokenizer makes {vocabulary}; import the two that belong together")
    return model


def _tell_unknown(model_type: str, settings: dict[str, Any]) -> None:
    """Say in the log which settings the architecture does not have: transformers keeps them and reads nothing."""
    from transformers import AutoConfig

    plain = AutoConfig.for_model(model_type)
    known = {*plain.to_dict(), *plain.attribute_map, *LEGACY_SETTINGS}
    for name in sorted(settings.keys() - known):
        print(f"config.{name}: {model_type} has no such setting, so it changes nothing", file=sys.stderr, flush=True)  # noqa: T201 - a recipe's log


def _check_heads(config: Any) -> None:
    """Raise `BadData` where queries cannot share keys evenly; what a spec leaves out has another default in each family."""
    heads, groups = getattr(config, "num_attention_heads", None), getattr(config, "num_key_value_heads", None)
    if heads and groups and heads % groups:
        raise BadData(
            f"config.num_key_value_heads: {groups} does not divide num_attention_heads {heads}; set one of them so that it does"
        )


def _check_context(spec: PretrainSpec, model: Any) -> None:
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if context is not None and spec.sequence_length > context:
        raise BadData(
            f"sequence_length {spec.sequence_length} is more than the {context} positions of the model; lower sequence_length"
            + ("" if spec.config is None else ", or raise config.max_position_embeddings")
        )


def save_model(engine: Any, model: Any, tokenizer: Any, folder: Path, rank: int, precision: str | None = None) -> None:
    """Write weights as safetensors and the tokenizer. All ranks call this: under ZeRO 3 each holds a part only.

    `precision`: what the weights are written in, if not what they are trained in.
    """
    import deepspeed
    import torch

    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    is_partitioned, is_cut = engine.zero_optimization_stage() == 3, ranks_per_matrix(engine) > 1
    with deepspeed.zero.GatheredParameters(list(model.parameters()), enabled=is_partitioned):
        if precision and (rank == 0 or is_cut):
            model = model.to(dtypes[precision])
        whole = gather_weights(model) if is_cut else None
        if rank == 0:
            # Training needs no cache of keys and values; whoever generates with the model does.
            model.config.use_cache = True
            model.save_pretrained(folder, state_dict=whole)
            tokenizer.save_pretrained(folder)

"""The model that is fine-tuned: a base, and what of it learns."""

import inspect
from pathlib import Path
from typing import Any, TypeVar

from modelyard.domain.specs.finetuning import TuningSpec
from modelyard.workers.recipe import BadData, Run
from modelyard.workers.training.deepspeed_config import check_precision
from modelyard.workers.training.kernels import apply_kernels

Tuning = TypeVar("Tuning", bound=TuningSpec)
"""The spec of a run that tunes a model."""


def load_tuned_model(run: Run[Tuning], folder: Path) -> Any:
    """Load the base and add an adapter, unless all weights learn; the same seed gives the same adapter on every rank.

    Raises `BadData` when the spec asks for what this model or machine does not have.
    """
    import torch

    spec = run.spec
    check_precision(run)
    model = _load_base(run, folder)
    model.config.use_cache = False
    apply_kernels(run, model, compiles=spec.compile == "on")
    if spec.packing:
        keep_apart(run, model)
    if spec.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    torch.manual_seed(spec.seed)
    return model if spec.method == "full" else _add_adapter(spec, model)


def keep_apart(run: Run[Tuning], model: Any) -> None:
    """Let packed conversations see themselves only. Raises `BadData` if the architecture mixes what lies end to end."""
    from modelyard.workers.training.documents import choose_attention

    has_positions = "position_ids" in inspect.signature(model.forward).parameters
    if model._is_stateful or not has_positions:
        raise BadData(
            f"packing: the architecture `{model.config.model_type}` carries what it read from one conversation into the next; "
            "set packing to false"
        )
    spec = run.spec
    tokens = spec.micro_batch_size * spec.sequence_length
    # Where ours does not serve, transformers makes a mask from positions that restart.
    model.set_attn_implementation(choose_attention(model, run.device, spec.precision, tokens, compiles=spec.compile == "on"))


def check_context(spec: TuningSpec, config: Any) -> None:
    """Raise `BadData` when conversations may be longer than the model reads."""
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    if context is not None and spec.sequence_length > context:
        raise BadData(
            f"sequence_length {spec.sequence_length} is more than the {context} tokens the model reads; "
            f"set it to {context} or less, or choose a model with a longer context"
        )


def _load_base(run: Run[Tuning], folder: Path) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    check_context(run.spec, AutoConfig.from_pretrained(folder))
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[run.spec.precision]
    options = {"quantization_config": _four_bits(run, dtype)} if run.spec.method == "qlora" else {}
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True, **options)
    except OSError as error:
        raise BadData(f"the model cannot be loaded: {error}") from error


def _four_bits(run: Run[Tuning], dtype: Any) -> Any:
    """Return the quantization of QLoRA: 4-bit NormalFloat, its scales quantized too. Raises `BadData` where it cannot run."""
    from transformers import BitsAndBytesConfig
    from transformers.utils import is_bitsandbytes_available

    if run.device != "cuda":
        raise BadData("method qlora: 4-bit weights need a GPU, and this job runs on a CPU; choose lora, or a worker with GPUs")
    if not is_bitsandbytes_available():
        raise BadData("method qlora: bitsandbytes is not installed on this worker; pip install bitsandbytes, or choose lora")
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def _add_adapter(spec: TuningSpec, model: Any) -> Any:
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    lora = spec.lora
    if lora.target_modules != "all-linear":
        _check_targets(lora.target_modules, model)
    if spec.method == "qlora":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        use_dora=spec.method == "dora",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def _check_targets(wanted: list[str], model: Any) -> None:
    """Raise `BadData` for a name no linear layer has; PEFT would be content with one that fits."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    layers = [name for name, module in model.named_modules() if isinstance(module, (Linear, Conv1D))]
    unknown = [name for name in wanted if not any(layer == name or layer.endswith(f".{name}") for layer in layers)]
    if unknown:
        present = ", ".join(sorted({layer.rsplit(".", 1)[-1] for layer in layers}))
        raise BadData(f"lora.target_modules: the model has no {', '.join(unknown)}; it has {present}, or choose all-linear")

"""Import a model: find the weights, load them without running foreign code, verify, save as safetensors."""

from pathlib import Path
from typing import Any

from modelyard.domain.specs.data import ImportSpec
from modelyard.workers.data.model_sources import Weights, find_weights
from modelyard.workers.data.tokenizer_checks import (
    PRE_TOKENIZERS_WITH_SINGLE_DIGITS,
    TokenizerChecks,
    check_tokenizer,
    named_pre_tokenizer,
    restore_single_digits,
    separate_padding,
)
from modelyard.workers.libraries import configure_libraries
from modelyard.workers.model_card import write_model_card
from modelyard.workers.recipe import BadData, Run, run_recipe


def main(run: Run[ImportSpec]) -> None:
    """Make the model folder. Raises `BadData` when source, weights or tokenizer cannot be used."""
    spec = run.spec
    configure_libraries(run.device)
    run.progress(0.02, "finding the weights")
    weights = find_weights(spec.source, run.options.get("import_dir"))

    run.leave_if_asked()
    run.progress(0.1, f"loading {weights.origin}")
    tokenizer = _load_tokenizer(weights, spec.individual_digits)
    model = _load_model(weights)

    run.leave_if_asked()
    _check_forward(model, tokenizer, weights)

    run.phase("save")
    run.progress(0.7, "saving as safetensors")
    folder = run.output_folder("model")
    _align_special_tokens(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

    run.progress(0.9, "verifying the tokenizer as saved")
    checks = _check_saved_tokenizer(folder, model.config.vocab_size, weights, spec.individual_digits)
    facts = {**_facts(model), "tokenizer_size": len(tokenizer)}
    _write_card(folder, spec, weights, facts, checks)

    run.output(
        "model", "model", name=spec.name, role="base", tokenizer_verified=checks.passed, origin=weights.origin, **facts
    )  # fmt: skip
    run.figures(
        tokenizer_verified=checks.passed,
        parameters=facts["parameters"],
        bytes=sum(path.stat().st_size for path in folder.iterdir()),
        **{f"tokenizer_{name}": value for name, value in checks.facts().items()},
    )
    run.progress(1.0, f"{facts['parameters'] / 1e6:.1f} M parameters imported")


def _load_tokenizer(weights: Weights, individual_digits: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(weights.folder, gguf_file=weights.gguf_file, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise BadData(f"{weights.origin}: no tokenizer that loads without foreign code ({error})") from error
    if individual_digits:
        restore_single_digits(tokenizer)
    separate_padding(tokenizer)
    return tokenizer


def _load_model(weights: Weights) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    # GGUF weights that stay quantized can neither be saved nor trained.
    quantization = {"quantization_config": GgufConfig(dequantize=True), "dtype": torch.float32} if weights.gguf_file else {}
    try:
        return AutoModelForCausalLM.from_pretrained(
            weights.folder,
            **{"gguf_file": weights.gguf_file, "trust_remote_code": False, "use_safetensors": True, "dtype": "auto"}
            | quantization,
        )
    except (OSError, ValueError, KeyError) as error:
        raise BadData(f"{weights.origin}: no causal language model that loads without foreign code ({error})") from error


def _check_saved_tokenizer(folder: Path, vocabulary_size: int, weights: Weights, individual_digits: bool) -> TokenizerChecks:
    from transformers import AutoTokenizer

    # Loaded again: what counts is what later jobs will read.
    saved = AutoTokenizer.from_pretrained(folder)
    checks = check_tokenizer(saved, vocabulary_size, _wants_single_digits(weights, individual_digits))
    if not checks.within_vocabulary:
        raise BadData(f"{weights.origin}: the tokenizer has ids the model has no embedding for ({vocabulary_size})")
    return checks


def _wants_single_digits(weights: Weights, individual_digits: bool) -> bool:
    if individual_digits or weights.gguf_file is None:
        return individual_digits
    return named_pre_tokenizer(str(weights.folder / weights.gguf_file)) in PRE_TOKENIZERS_WITH_SINGLE_DIGITS


def _check_forward(model: Any, tokenizer: Any, weights: Weights) -> None:
    """Weights that were damaged or mapped to the wrong tensors show here, not in a user's first chat."""
    import torch

    ids = torch.tensor([tokenizer("Modelyard", add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        logits = model(ids).logits  # (1, sequence, vocabulary)
    if not torch.isfinite(logits).all():
        raise BadData(f"{weights.origin}: the model answers with NaN or infinity; the weights are damaged")


def _align_special_tokens(model: Any, tokenizer: Any) -> None:
    """Trainer and server read the special tokens from different places; both must name the tokenizer's."""
    for config in (model.config, model.generation_config):
        config.pad_token_id = tokenizer.pad_token_id
        # A model may have several end tokens; those it names are right.
        if config.eos_token_id is None:
            config.eos_token_id = tokenizer.eos_token_id


def _facts(model: Any) -> dict[str, Any]:
    import transformers

    return {
        "architecture": model.config.model_type,
        "parameters": model.num_parameters(),
        "vocabulary_size": model.config.vocab_size,
        "context_length": getattr(model.config, "max_position_embeddings", None),
        "dtype": str(model.dtype).removeprefix("torch."),
        "transformers_version": transformers.__version__,
    }


def _write_card(folder: Path, spec: ImportSpec, weights: Weights, facts: dict[str, Any], checks: TokenizerChecks) -> None:
    verdict = "The tokenizer passed every check." if checks.passed else "**The tokenizer failed a check; see below.**"
    write_model_card(
        folder,
        spec.name,
        f"Imported from {weights.origin} and saved as safetensors. {verdict}",
        {"Model": facts, "Tokenizer checks": checks.facts()},
    )


if __name__ == "__main__":
    run_recipe(main)

"""A Llama-architecture decoder from scratch, and how its weights leave DeepSpeed."""

from pathlib import Path
from typing import Any

from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.workers.recipe import BadData


def build_model(spec: PretrainSpec, tokenizer: Any) -> Any:
    """Return a randomly initialised model; the same seed gives the same weights on every rank. Raises `BadData`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    size = spec.architecture
    if size.hidden_size % size.heads or size.heads % size.key_value_heads:
        raise BadData(
            f"hidden_size {size.hidden_size} must be a multiple of heads {size.heads}, "
            f"and heads a multiple of key_value_heads {size.key_value_heads}"
        )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden_size,
        intermediate_size=size.intermediate_size,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_value_heads,
        max_position_embeddings=spec.sequence_length,
        # One matrix for input and output saves a third of a small model (Press & Wolf 2017, arXiv:1608.05859).
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=False,
    )
    torch.manual_seed(spec.seed)
    return LlamaForCausalLM(config)


def save_model(engine: Any, tokenizer: Any, folder: Path, rank: int) -> None:
    """Write weights as safetensors and the tokenizer. All ranks call this: under ZeRO 3 each holds a part only."""
    import deepspeed

    parameters = list(engine.module.parameters())
    is_partitioned = engine.zero_optimization_stage() == 3
    with deepspeed.zero.GatheredParameters(parameters, enabled=is_partitioned):
        if rank == 0:
            # Training needs no cache of keys and values; whoever generates with the model does.
            engine.module.config.use_cache = True
            engine.module.save_pretrained(folder)
            tokenizer.save_pretrained(folder)

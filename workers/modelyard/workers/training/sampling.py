"""Let the model that is being trained answer. Importing this imports torch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

Tokens = list[int]


def sample_answers(
    engine: Any, tokenizer: Any, prompts: Sequence[Tokens], answers: int, max_new_tokens: int, temperature: float | None
) -> list[list[Tokens]]:
    """Return so many answers to each prompt, each with its end token where it has one; without a temperature the likeliest.

    All are generated at once. Chance is torch's, so that a seed decides.
    """
    ends = _end_tokens(engine.module, tokenizer)
    width = max(map(len, prompts))
    padding = min(ends)
    tokens = torch.tensor([[padding] * (width - len(each)) + each for each in prompts], device=engine.device)
    mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in prompts], device=engine.device)
    # Whatever else the model's own settings ask for would make samples of another distribution than the one that learns.
    chance = {"do_sample": False} if temperature is None else {"do_sample": True, "temperature": temperature}
    with torch.no_grad(), _answering(engine):
        generated = engine.module.generate(
            input_ids=tokens, attention_mask=mask, max_new_tokens=max_new_tokens, num_return_sequences=answers,
            top_k=0, top_p=1.0, repetition_penalty=1.0, pad_token_id=padding, eos_token_id=sorted(ends), use_cache=True,
            # What is no number cannot be drawn from, on a GPU not even refused: it shows when the answer is learned from.
            remove_invalid_values=True, **chance,
        )  # fmt: skip
    found = [_until_end(row, ends) for row in generated[:, width:].tolist()]
    return [found[start : start + answers] for start in range(0, len(found), answers)]


@contextmanager
def _answering(engine: Any) -> Iterator[None]:
    """Switch to evaluation, and to attention that knows padding and a cache, which that over packed answers does not."""
    module = engine.module
    base = module.get_base_model() if hasattr(module, "get_base_model") else module
    was_training, attention = module.training, base.config._attn_implementation
    module.eval()
    base.set_attn_implementation("sdpa" if base._supports_sdpa else "eager")
    try:
        yield
    finally:
        base.set_attn_implementation(attention)
        module.train(was_training)


def _end_tokens(module: Any, tokenizer: Any) -> set[int]:
    named = module.generation_config.eos_token_id
    return {tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])} - {None}


def _until_end(tokens: Tokens, ends: set[int]) -> Tokens:
    last = next((place for place, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return tokens[: last + 1]

"""How the next token is chosen, per request, inside transformers' continuous batching."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingTemperatureLogitsWarper,
    ContinuousBatchingTopPLogitsWarper,
)


@dataclass(frozen=True)
class Sampling:
    """`temperature` 0 takes the most likely token; `top_p` keeps the smallest set of tokens with that probability."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0


def sampling_defaults(end_tokens: list[int], pad_token: int) -> GenerationConfig:
    """The configuration all requests start from. Values other than 1 make the library create both processors."""
    return GenerationConfig(do_sample=True, temperature=0.5, top_p=0.5, top_k=0, eos_token_id=end_tokens, pad_token_id=pad_token)


class GreedyOrTemperature(ContinuousBatchingTemperatureLogitsWarper):
    """Temperature per request where 0 is allowed: the library divides by it, and samples among equal logits.

    bf16 logits tie often, so a very small temperature would not always give the same answer.
    """

    def __init__(self, processor: Any) -> None:
        """Take over the defaults of the library's own."""
        self.__dict__.update(processor.__dict__)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Shapes: scores (tokens, vocabulary), tensor_arg (tokens,) temperatures stored as int32."""
        temperatures = tensor_arg[: scores.size(0)].view(dtype=torch.float32).unsqueeze(-1)
        is_greedy = temperatures == 0
        scaled = scores / torch.where(is_greedy, 1.0, temperatures)
        # No branch on the data: a captured CUDA graph must do the same whatever the requests want.
        best = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, scores.argmax(dim=-1, keepdim=True), True)
        return scaled.masked_fill(is_greedy & ~best, float("-inf"))


class TopP(ContinuousBatchingTopPLogitsWarper):
    """Nucleus sampling per request, without sorting the vocabulary when on a CPU nobody asked for it."""

    def __init__(self, processor: Any) -> None:
        """Take over the defaults of the library's own."""
        self.__dict__.update(processor.__dict__)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Shapes as above, `tensor_arg` holding the probabilities to keep."""
        if scores.device.type == "cpu" and bool((tensor_arg[: scores.size(0)].view(dtype=torch.float32) >= 1).all()):
            return scores
        return super().__call__(scores, tensor_arg)


REPLACEMENTS: dict[type, Callable[[Any], Any]] = {
    ContinuousBatchingTemperatureLogitsWarper: GreedyOrTemperature,
    ContinuousBatchingTopPLogitsWarper: TopP,
}


def install_processors(manager: Any) -> None:
    """Put our processors in the place of the library's in a continuous-batching manager that has not started."""
    processors = manager.logit_processor.logits_processor
    found = {type(processor) for processor in processors}
    if found != set(REPLACEMENTS):
        raise RuntimeError(f"transformers made the processors {found}, this server knows {set(REPLACEMENTS)}; pin transformers")
    for number, processor in enumerate(processors):
        processors[number] = REPLACEMENTS[type(processor)](processor)

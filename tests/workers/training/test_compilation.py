"""Compiled layers: the same numbers, for sequences of any length by one compilation."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from modelyard.workers.training.compilation import compile_layers


def learn(model: Any, length: int) -> tuple[float, torch.Tensor]:
    """Return a loss and the gradient of the first matrix."""
    tokens = torch.arange(length)[None] % 50
    loss = model(input_ids=tokens, labels=tokens).loss
    model.zero_grad()
    loss.backward()
    return float(loss), model.model.layers[0].self_attn.q_proj.weight.grad.clone()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_any_length_gives_the_numbers_of_plain_layers() -> None:
    torch.manual_seed(1)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 50}
    model = LlamaForCausalLM(LlamaConfig(**size, attn_implementation="sdpa"))
    plain = {length: learn(model, length) for length in (12, 19, 33)}
    compile_layers(SimpleNamespace(module=model, device=torch.device("cpu")), is_dynamic=True)
    torch._dynamo.utils.counters.clear()
    for length, (loss, gradient) in plain.items():
        found, slope = learn(model, length)
        assert found == pytest.approx(loss, rel=1e-5)
        assert torch.allclose(slope, gradient, atol=1e-6)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert 1 <= graphs <= 2, f"{graphs} compilations for three lengths"

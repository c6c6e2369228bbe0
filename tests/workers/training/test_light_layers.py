"""Lighter layers and losses say what transformers' own say, and give the same gradients."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from modelyard.workers.training.documents import ATTENTION, choose_joined_attention
from modelyard.workers.training.gradient_norm import find_divisor
from modelyard.workers.training.light_layers import lighten_layers, restore_layers

SIZES = {
    "vocab_size": 90, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "use_cache": False,
}  # fmt: skip


def build(**changes: Any) -> Any:
    """A Llama whose norms do something and whose weights are large enough that whatever differs shows."""
    torch.manual_seed(3)
    model = LlamaForCausalLM(LlamaConfig(**{**SIZES, **changes}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if parameter.ndim == 1 else 0.0, std=0.2)
    return model


def learn(model: Any, tokens: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The logits (batch, sequence, vocabulary), and the gradients of all weights."""
    model.zero_grad()
    logits = model(input_ids=tokens).logits
    (logits.float() * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum().backward()
    return logits.detach(), [parameter.grad.clone() for parameter in model.parameters()]


@pytest.fixture
def tokens() -> torch.Tensor:
    """(batch 3, sequence 17)"""
    return torch.randint(0, 90, (3, 17), generator=torch.Generator().manual_seed(5))


def assert_same(found: tuple[torch.Tensor, list[torch.Tensor]], wanted: tuple[torch.Tensor, list[torch.Tensor]]) -> None:
    torch.testing.assert_close(found[0], wanted[0], atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(found[1], wanted[1], strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4 * float(theirs.abs().max()), rtol=0)


class TestLighten:
    @pytest.mark.parametrize("attention", [ATTENTION, "sdpa", "eager"])
    @pytest.mark.parametrize("checkpoints", [False, True])
    def test_outputs_and_gradients_stay(self, tokens: torch.Tensor, attention: str, checkpoints: bool) -> None:
        model = build().train()
        wanted = learn(model, tokens)
        lighten_layers(model)
        model.set_attn_implementation(attention)
        if checkpoints:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        assert_same(learn(model, tokens), wanted)

    def test_half_precision_is_left_to_the_model(self, tokens: torch.Tensor) -> None:
        model = build().to(torch.bfloat16)
        wanted = model(input_ids=tokens).logits
        lighten_layers(model)
        torch.testing.assert_close(model(input_ids=tokens).logits, wanted, atol=0.1, rtol=0.05)

    def test_restoring_brings_back_the_models_own(self, tokens: torch.Tensor) -> None:
        model = build().eval()
        wanted = model.generate(tokens, max_new_tokens=4, do_sample=False, use_cache=True)
        lighten_layers(model)
        with pytest.raises(ValueError, match="restore_layers"):
            model.generate(tokens, max_new_tokens=4, do_sample=False, use_cache=True)
        restore_layers(model)
        assert torch.equal(model.generate(tokens, max_new_tokens=4, do_sample=False, use_cache=True), wanted)

    def test_other_layers_are_left_alone(self) -> None:
        class Own(LlamaRMSNorm):  # type: ignore[misc]
            """A norm that might do something else."""

        norm = Own(8)
        lighten_layers(torch.nn.ModuleList([norm]))
        assert "forward" not in vars(norm)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, ATTENTION), ({"attention_dropout": 0.1}, None), ({"model_type": "gemma"}, None), ({"sliding_window": 16}, None)],
)
def test_joined_documents_need_no_mask_of_transformers(changes: dict[str, Any], expected: str | None) -> None:
    model = build()
    for name, value in changes.items():
        setattr(model.config, name, value)
    assert choose_joined_attention(model, 32) == expected


@pytest.mark.parametrize(("norm", "most", "divisor"), [(0.5, 1.0, 1.0), (3.0, 1.0, 3.0), (3.0, 2.0, 1.5)])
def test_gradients_are_divided_only_where_they_are_too_long(norm: float, most: float, divisor: float) -> None:
    assert float(find_divisor(torch.tensor(norm), most)) == pytest.approx(divisor, rel=1e-5)

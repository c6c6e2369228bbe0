"""Parameters by formula are those transformers counts, and an adapter's those PEFT adds."""

from typing import Any

import pytest

from modelyard.domain.planning.shapes import count_adapter_parameters, count_parameters, read_shape

SMALL = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3,
    "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
SMOLLM2 = {
    "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
}  # fmt: skip


def build(config: dict[str, Any]) -> Any:
    """The model of a configuration, without memory for its weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    values = {key: value for key, value in config.items() if key != "model_type"}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **values))


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama", **SMOLLM2},
        {"model_type": "llama", **SMALL, "tie_word_embeddings": True},
        {"model_type": "llama", **SMALL, "tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True},
        {"model_type": "llama", **SMALL, "num_key_value_heads": 8, "head_dim": 16},
        {"model_type": "mistral", **SMALL},
        {"model_type": "qwen2", **SMALL, "tie_word_embeddings": True},
        {"model_type": "qwen3", **SMALL, "head_dim": 16},
        {"model_type": "smollm3", **SMALL, "pad_token_id": 0},
    ],
)
def test_parameters(config: dict[str, Any]) -> None:
    model = build(config)
    shape = read_shape(model.config.to_dict())  # what lies in `config.json`
    assert shape is not None
    assert count_parameters(shape) == model.num_parameters()


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["o_proj", "down_proj", "k_proj"], ["all-linear"]])
def test_adapter_parameters(targets: list[str], dora: bool) -> None:
    from peft import LoraConfig, get_peft_model

    chosen: Any = "all-linear" if targets == ["all-linear"] else targets
    config = {"model_type": "llama", **SMALL}
    adapted = get_peft_model(build(config), LoraConfig(r=4, target_modules=chosen, use_dora=dora, task_type="CAUSAL_LM"))
    shape = read_shape(config)
    assert shape is not None
    expected = sum(each.numel() for each in adapted.parameters() if each.requires_grad)
    assert count_adapter_parameters(shape, 4, targets, dora) == expected


@pytest.mark.parametrize("config", [{}, {"model_type": "mamba", **SMALL}, {"model_type": "llama", "vocab_size": 10}])
def test_no_formula(config: dict[str, Any]) -> None:
    assert read_shape(config) is None

"""Llama-architecture decoders: their sizes, the presets, and how many parameters they have."""

from typing import Literal

from pydantic import Field, model_validator

from modelyard.domain.specs.base import SpecModel

PresetName = Literal["5M", "15M", "50M", "124M", "135M", "350M", "1B", "3B", "8B"]
CAUSAL_MODEL_TYPES = (
    "arcee", "cohere", "cwm", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3_text", "glm", "glm4", "gpt2", "gpt_neox",
    "gptj", "granite", "granitemoe", "helium", "hunyuan_v1_dense", "llama", "minicpm3", "ministral", "mistral",
    "mixtral", "nanochat", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "phi", "phi3", "qwen2", "qwen2_moe", "qwen3",
    "qwen3_moe", "seed_oss", "smollm3", "stablelm", "starcoder2",
)  # fmt: skip
"""`model_type`s of transformers that are decoders and keep packed documents apart (each is tried by a test)."""
PLAIN_MODEL_TYPES = frozenset({
    "arcee", "ernie4_5", "granite", "helium", "llama", "mistral", "olmo", "olmo2", "phi3", "qwen2", "qwen3", "seed_oss",
    "smollm3", "starcoder2",
})  # fmt: skip
"""Of these, the ones whose layers all attend to everything before them, by the interface of transformers."""


class ArchitectureSpec(SpecModel):
    """A Llama-architecture decoder."""

    hidden_size: int = Field(default=256, ge=16, le=2**20)
    intermediate_size: int = Field(default=688, ge=16, le=2**22)
    layers: int = Field(default=4, ge=1, le=10_000)
    heads: int = Field(default=4, ge=1, le=2**16)
    key_value_heads: int = Field(default=4, ge=1, le=2**16)
    tied_embeddings: bool = True
    """One matrix for input and output saves a third of a small model (Press & Wolf 2017, arXiv:1608.05859)."""
    rope_theta: float = Field(default=10_000.0, gt=0)
    """Base of the rotary positions; larger for longer contexts."""

    @model_validator(mode="after")
    def _heads_divide(self) -> "ArchitectureSpec":
        if self.hidden_size % self.heads or self.heads % self.key_value_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of heads {self.heads}, "
                f"and heads a multiple of key_value_heads {self.key_value_heads}"
            )
        if self.hidden_size // self.heads % 2:
            raise ValueError(
                f"hidden_size {self.hidden_size} / heads {self.heads} is {self.hidden_size // self.heads}, but rotary positions "
                f"need an even number; take {self.heads * 2 * max(1, self.hidden_size // self.heads // 2)} as hidden_size"
            )
        return self

    def parameters(self, vocabulary_size: int) -> int:
        """How many parameters the model has."""
        hidden, key_value = self.hidden_size, self.hidden_size // self.heads * self.key_value_heads
        attention = 2 * hidden * hidden + 2 * hidden * key_value
        layer = attention + 3 * hidden * self.intermediate_size + 2 * hidden
        return vocabulary_size * hidden * (1 if self.tied_embeddings else 2) + self.layers * layer + hidden


class Preset(SpecModel):
    """A size with a name: an architecture and the vocabulary it was laid out for."""

    architecture: ArchitectureSpec
    vocabulary_size: int

    def parameters(self) -> int:
        """How many parameters it has with its own vocabulary."""
        return self.architecture.parameters(self.vocabulary_size)


def _preset(
    hidden: int, intermediate: int, layers: int, heads: int, key_value: int, vocabulary: int,
    *, tied: bool = True, theta: float = 1e4,
) -> Preset:  # fmt: skip
    architecture = ArchitectureSpec(
        hidden_size=hidden, intermediate_size=intermediate, layers=layers, heads=heads, key_value_heads=key_value,
        tied_embeddings=tied, rope_theta=theta,
    )  # fmt: skip
    return Preset(architecture=architecture, vocabulary_size=vocabulary)


PRESETS: dict[PresetName, Preset] = {
    "5M": _preset(256, 688, 5, 4, 4, 4096),
    "15M": _preset(320, 864, 8, 5, 5, 16_384),
    "50M": _preset(576, 1536, 9, 9, 3, 32_768),
    "124M": _preset(768, 2048, 12, 12, 12, 50_304),
    "135M": _preset(576, 1536, 30, 9, 3, 49_152),
    "350M": _preset(960, 2560, 32, 15, 5, 49_152),
    "1B": _preset(2048, 8192, 16, 32, 8, 128_256, theta=5e5),
    "3B": _preset(3072, 8192, 28, 24, 8, 128_256, theta=5e5),
    "8B": _preset(4096, 14_336, 32, 32, 8, 128_256, tied=False, theta=5e5),
}
"""124M has GPT-2's width, depth and vocabulary; 135M and 350M the shape of SmolLM2; 1B, 3B and 8B that of Llama 3."""

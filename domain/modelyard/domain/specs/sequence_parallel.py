"""Several ranks that work on the same sequences: the fields, and which sequences cannot be shared out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from modelyard.domain.errors import InvalidRequest
from modelyard.domain.specs.architectures import PLAIN_MODEL_TYPES
from modelyard.domain.specs.optimization import DeepSpeedSpec, ZeroStage

FIELD = "deepspeed.sequence_parallel_size"
MATRICES_FIELD = "deepspeed.tensor_parallel_size"
SHORTEST_PART = 16
"""Tokens: the least a sequence has, too."""


class SharingDeepSpeedSpec(DeepSpeedSpec):
    """The choices of a training whose ranks may share sequences, or matrices."""

    zero_stage: ZeroStage = "auto"
    """What is shared out over the ranks: nothing, the optimizer's state, gradients too, parameters too. `auto`: 0 for one rank,
    which shares with nobody and steps fastest, and 1 for several."""
    sequence_parallel_size: int = Field(default=1, ge=1)
    """Ranks that work on the same sequences, an even part each, by Ulysses (Jacobs et al. 2023, arXiv:2309.14509): activations of
    long sequences take so many times less memory. It must divide the ranks, the heads and the sequence length."""

    tensor_parallel_size: int = Field(default=1, ge=1)
    """Ranks that compute each matrix product of the layers together, an even part each, by DeepSpeed's AutoTP: the layers take so
    many times less memory, at the price of two exchanges per layer. It must divide the ranks, the heads and the MLP's width."""

    @model_validator(mode="after")
    def _is_not_told_twice(self) -> "SharingDeepSpeedSpec":
        for key, field in (("sequence_parallel_size", FIELD), ("tensor_parallel", MATRICES_FIELD)):
            if key in self.override:
                raise ValueError(f"override.{key}: its groups are made here; set {field} instead")
        if self.sequence_parallel_size > 1 and self.tensor_parallel_size > 1:
            raise ValueError(
                f"tensor_parallel_size {self.tensor_parallel_size} does not go with sequence_parallel_size "
                f"{self.sequence_parallel_size}; set one of them to 1"
            )
        return self

    def ranks_per_group(self) -> int:
        """How many neighbouring ranks work on the same sequences."""
        return self.sequence_parallel_size * self.tensor_parallel_size


@dataclass(frozen=True)
class Heads:
    """Attention heads of a model; None where a spec does not tell."""

    queries: int | None = None
    keys: int | None = None

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> "Heads":
        """Read those of a configuration of transformers."""
        return cls(config.get("num_attention_heads"), config.get("num_key_value_heads"))


def refuse_uneven_shares(size: int, sequence_length: int, heads: Heads, config: Mapping[str, Any] | None) -> None:
    """Raise `ValueError` for a model or a length that cannot be shared out evenly over so many ranks."""
    if size == 1:
        return
    if config is not None and config["model_type"] not in PLAIN_MODEL_TYPES:
        raise ValueError(
            f"{FIELD} {size} needs attention of the plain kind, which config.model_type {config['model_type']!r} does not have; "
            f"set it to 1, or take one of {', '.join(sorted(PLAIN_MODEL_TYPES))}"
        )
    for name, count in (("heads", heads.queries), ("key_value_heads", heads.keys)):
        if count is not None and count % size:
            raise ValueError(f"{name} {count} cannot be shared out evenly over {FIELD} {size}; {list_sizes(count)}")
    if sequence_length % size or sequence_length // size < SHORTEST_PART:
        raise ValueError(
            f"sequence_length {sequence_length} cannot be shared out evenly over {FIELD} {size}, at least {SHORTEST_PART} tokens "
            f"each; set it to {max(SHORTEST_PART, round(sequence_length / size)) * size}"
        )


def check_groups(deepspeed: SharingDeepSpeedSpec, ranks: int) -> None:
    """Refuse a number of ranks that does not make whole groups. Raises `InvalidRequest`."""
    size = deepspeed.ranks_per_group()
    if ranks % size:
        field = FIELD if deepspeed.sequence_parallel_size > 1 else MATRICES_FIELD
        raise InvalidRequest(
            f"spec.{field}: {ranks} ranks are not a multiple of {size}; {list_sizes(ranks)}, or ask for "
            f"{-(-ranks // size) * size} slots",
            field=f"spec.{field}",
            value=size,
        )


def check_sharing_device(size: int, accelerator: str, precision: str) -> None:
    """Refuse documents apart in 32 bits on GPUs, for which attention is not made. Raises `InvalidRequest`."""
    if size > 1 and accelerator == "gpu" and precision == "fp32":
        raise InvalidRequest(
            f"spec.precision: fp32 does not go with {FIELD} {size} on GPUs, whose attention over documents apart is made for "
            f"16 bits; set it to bf16, or {FIELD} to 1",
            field="spec.precision",
            value=precision,
        )


def list_sizes(count: int) -> str:
    """Say into how many parts a number of ranks, heads, … can be divided evenly."""
    sizes = [str(size) for size in range(1, count + 1) if count % size == 0]
    return f"it may be {' or '.join([', '.join(sizes[:-1]), sizes[-1]] if len(sizes) > 1 else sizes)}"

"""One sequence shared out over several ranks: Ulysses (Jacobs et al. 2023, arXiv:2309.14509).

Each rank of a group works on an even part of the same sequences. For attention they trade, all to all: a part of every head for
the whole of some heads, and back. DeepSpeed is not told of the groups but takes all ranks for ordinary ones, and their losses are
weighed for that (`Batch.share`): so ZeRO, gradients and checkpoints are as always. Importing this imports torch and DeepSpeed.
"""

from collections.abc import Sequence
from typing import Any

import torch.distributed
from deepspeed.sequence.layer import DistributedAttention
from torch import Tensor
from transformers import AttentionInterface

from modelyard.domain.errors import InvalidRequest
from modelyard.domain.specs.architectures import PLAIN_MODEL_TYPES
from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.workers.recipe import BadData
from modelyard.workers.training import documents
from modelyard.workers.training.documents import SHARED_ATTENTION, has_plain_attention


def share_sequences(model: Any, spec: PretrainSpec, device: str) -> None:
    """Let groups of neighbouring ranks share sequences; all ranks call this together. Raises `BadData`."""
    ranks = spec.deepspeed.sequence_parallel_size
    _check_model(model.config, ranks, spec.sequence_length)
    try:
        spec.check_accelerator("gpu" if device == "cuda" else "cpu")
    except InvalidRequest as error:
        raise BadData(str(error)) from error
    group, _all = torch.distributed.new_subgroups(ranks)
    trade = DistributedAttention(_attend_to_whole, group, scatter_idx=2, gather_idx=1)

    def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, _mask: Any, **layout: Any) -> tuple[Tensor, None]:
        # (batch, heads, part, size) → (batch, part, heads, size), and in between (batch, sequence, some heads, size)
        attended: Tensor = trade(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), 0, module=module, layout=layout
        )  # fmt: skip
        return attended, None

    AttentionInterface.register(SHARED_ATTENTION, attend)
    model.set_attn_implementation(SHARED_ATTENTION)


def _attend_to_whole(query: Tensor, key: Tensor, value: Tensor, *, module: Any, layout: dict[str, Any]) -> Tensor:
    return documents.attend(module, query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), None, **layout)[0]


def _check_model(config: Any, ranks: int, sequence_length: int) -> None:
    """What a spec that names a model of the registry does not show."""
    if getattr(config, "attention_dropout", 0.0):
        raise BadData(
            f"deepspeed.sequence_parallel_size: attention_dropout {config.attention_dropout} is not for shared sequences"
        )
    if not has_plain_attention(config, sequence_length):
        raise BadData(
            f"deepspeed.sequence_parallel_size: {ranks} ranks cannot share sequences of the architecture `{config.model_type}`, "
            f"whose attention is of a kind of its own; set it to 1, or take one of {', '.join(sorted(PLAIN_MODEL_TYPES))}"
        )
    heads: Sequence[int] = (config.num_attention_heads, getattr(config, "num_key_value_heads", config.num_attention_heads))
    if any(count % ranks for count in heads):
        raise BadData(
            f"deepspeed.sequence_parallel_size: {heads[0]} heads and {heads[1]} key-value heads cannot be shared out evenly over "
            f"{ranks} ranks; set it to a number that divides both"
        )

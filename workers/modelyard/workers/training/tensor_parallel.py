"""Matrices shared out over several ranks, which compute each product together: AutoTP of DeepSpeed, told which to cut and how.

The first of two products, to heads or to the MLP's inside, is cut by its outputs and the second by its inputs (Shoeybi et al.
2019, arXiv:1909.08053): one sum over the ranks per pair. Embeddings, norms and the head are whole on every rank.
"""

from typing import Any

from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.domain.specs.tensor_parallel import find_uncuttable
from modelyard.workers.recipe import BadData

BY_OUTPUTS = r".*\.(q_proj|k_proj|v_proj|gate_proj|up_proj)\.(weight|bias)$"
BY_INPUTS = r".*\.(o_proj|down_proj)\.weight$"


def describe_cuts(spec: PretrainSpec) -> dict[str, Any]:
    """Return what DeepSpeed's configuration has to say; nothing where each rank has whole matrices."""
    size = spec.deepspeed.tensor_parallel_size
    if size == 1:
        return {}
    layers = [
        {"patterns": [BY_OUTPUTS], "partition_type": "column"},
        {"patterns": [BY_INPUTS], "partition_type": "row"},
    ]
    partition = {"use_default_specs": False, "layer_specs": layers}
    return {"tensor_parallel": {"autotp_size": size, "vocab_parallel_lm_head": False, "partition_config": partition}}


def check_cuts(model: Any, size: int) -> None:
    """Raise `BadData` for a model that cannot be cut up for so many ranks: a spec that names one does not show it."""
    if size > 1 and (reason := find_uncuttable(size, model.config.to_dict())):
        raise BadData(reason)


def settle_cuts(engine: Any) -> None:
    """Note how large what was cut is as a whole; leave out a look at each rank's first batch, which is the same by its order."""
    for parameter in engine.module.parameters():
        if is_cut(parameter):
            parameter.whole_numel = parameter.numel() * ranks_per_matrix(engine)
    engine.first_dataloader_check.remove()


def ranks_per_matrix(engine: Any) -> int:
    """How many ranks have parts of each matrix; 1 where each has whole ones."""
    return max(1, int(engine.autotp_size()))


def is_cut(parameter: Any) -> bool:
    """Whether other ranks have other parts of a parameter."""
    return bool(getattr(parameter, "tensor_model_parallel", False))


def gather_weights(model: Any) -> dict[str, Any]:
    """Return the whole weights of a model by name, on the CPU of rank 0 only. All ranks call this together."""
    import torch.distributed
    from deepspeed.module_inject.layers import GatherReplacedLayerParams

    keeps, found, seen = torch.distributed.get_rank() == 0, {}, set[int]()
    for place, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        with GatherReplacedLayerParams(list(own.values()), module):
            for name, parameter in own.items():
                if keeps and id(parameter) not in seen:
                    found[f"{place}.{name}"] = parameter.detach().to("cpu", copy=True)
        seen |= set(map(id, own.values()))
    return found

"""Continue on another number of ranks or ZeRO stage: put the parts of a checkpoint together, and hand each rank its new part.

DeepSpeed's own way, universal checkpoints, neither reads nor writes stage 0. Importing this imports torch.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modelyard.workers.training.checkpoints import is_divided

WEIGHT = "weight"
NAMES = "parameter_names"
"""Where a checkpoint of stage 0 keeps the names of what its optimizer numbers."""
RANK_OF_FILE = re.compile(r"zero_pp_rank_(\d+)_mp_rank_00_optim_states\.pt$")

Parameter = dict[str, Tensor]
"""A parameter's weight and its optimizer's states, each flat and whole; single numbers, such as the step, as they are."""


@dataclass(frozen=True)
class WholeState:
    """What training knows, whoever wrote it."""

    parameters: dict[str, Parameter]
    counters: dict[str, int]
    """`global_steps`, …, as the engine counts them."""
    loss_scaler: Any = None


def read_whole_state(folder: Path) -> WholeState:
    """Put together what all ranks wrote into a folder of DeepSpeed's."""
    files = sorted((int(match[1]), path) for path in folder.iterdir() if (match := RANK_OF_FILE.search(path.name)))
    model_file = next(folder / name for name in ("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_model_states.pt")
                      if (folder / name).exists())  # fmt: skip
    model = _read(model_file)
    counters = {name: model[name] for name in ("global_steps", "global_samples", "skipped_steps")}
    if not files:
        return WholeState(_read_plain(model), counters)
    parts = [_read(path)["optimizer_state_dict"] for _, path in files]
    pieces: dict[str, dict[str, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
    for part in parts:
        cut = _cut_sharded(part, model, len(parts)) if "fp32_flat_groups" in part else _cut_flat(part)
        for name, key, piece in cut:
            pieces[name][key].append(piece)
    sizes = {name: shape.numel() for group in model["param_shapes"] for name, shape in group.items()}
    parameters = {name: {key: _join(found, sizes[name]) for key, found in keys.items()} for name, keys in pieces.items()}
    return WholeState(parameters, counters, parts[0].get("loss_scaler"))


def load_whole_state(engine: Any, state: WholeState) -> None:
    """Give this rank's engine its part. All ranks call this together."""
    stage, optimizer = engine.zero_optimization_stage(), engine.optimizer
    if stage < 3:
        with torch.no_grad():
            for name, parameter in _learning(engine):
                parameter.copy_(state.parameters[name][WEIGHT].view_as(parameter))
    if not is_divided(engine):
        optimizer.load_state_dict(_plain_state(engine, state))
    else:
        part = _sharded_state(engine, state) if stage == 3 else _flat_state(engine, state)
        if state.loss_scaler is not None and "loss_scaler" in part:
            part["loss_scaler"] = state.loss_scaler
        rank, ranks = _place(engine)
        parts: list[Any] = [None] * ranks
        parts[rank] = part
        optimizer.load_state_dict(parts, load_optimizer_states=True, load_from_fp32_weights=True)
    if stage == 3:
        optimizer.checkpoint_event_epilogue()
    for name, value in state.counters.items():
        setattr(engine, name, value)


def names_by_group(engine: Any) -> list[list[str]]:
    """The names of what the engine's plain optimizer numbers, in its order."""
    names = {id(parameter): name for name, parameter in engine.module.named_parameters()}
    return [[names[id(parameter)] for parameter in group["params"]] for group in engine.optimizer.param_groups]


def _learning(engine: Any) -> Iterator[tuple[str, Any]]:
    """The parameters that are in a checkpoint: what does not learn is in the base."""
    return ((name, parameter) for name, parameter in engine.module.named_parameters() if parameter.requires_grad)


def _read(path: Path) -> Any:
    # Pickles, but verified to be those we wrote.
    return torch.load(path, map_location="cpu", weights_only=False, mmap=True)


def _join(pieces: list[Tensor], size: int) -> Tensor:
    return pieces[0] if pieces[0].dim() == 0 else torch.cat(pieces)[:size]


def _read_plain(model: dict[str, Any]) -> dict[str, Parameter]:
    names = [name for group in model[NAMES] for name in group]
    states = model["optimizer"]["state"]
    return {
        name: {WEIGHT: model["module"][name].flatten(), **{key: _flat(value) for key, value in states.get(number, {}).items()}}
        for number, name in enumerate(names)
    }


def _cut_flat(part: dict[str, Any]) -> Iterator[tuple[str, str, Tensor]]:
    """What one rank of stage 1 or 2 wrote: (name, key, piece)."""
    weights, states = part["single_partition_of_fp32_groups"], part["base_optimizer_state"]["state"]
    for number, addresses in enumerate(part["param_slice_mappings"]):
        for key, flat in {WEIGHT: weights[number], **states.get(number, {})}.items():
            for name, address in addresses.items():
                yield name, key, _flat(flat) if _is_single(flat) else flat.narrow(0, address.start, address.numel)


def _cut_sharded(part: dict[str, Any], model: dict[str, Any], ranks: int) -> Iterator[tuple[str, str, Tensor]]:
    """What one rank of stage 3 wrote: an even share of each parameter, (name, key, piece)."""
    states = part["optimizer_state_dict"]["state"]
    for number, shapes in enumerate(model["param_shapes"]):
        for key, flat in {WEIGHT: part["fp32_flat_groups"][number], **states.get(number, {})}.items():
            start = 0
            for name, shape in shapes.items():
                share = math.ceil(shape.numel() / ranks)
                yield name, key, _flat(flat) if _is_single(flat) else flat.narrow(0, start, share)
                start += share


def _plain_state(engine: Any, state: WholeState) -> dict[str, Any]:
    """The state dict of an optimizer that has all of every parameter."""
    shapes = {name: parameter.shape for name, parameter in engine.module.named_parameters()}
    names = [name for group in names_by_group(engine) for name in group]
    states = {
        number: {
            key: value.clone() if _is_single(value) else value.view(shapes[name])
            for key, value in state.parameters[name].items()
            if key != WEIGHT
        }
        for number, name in enumerate(names)
    }
    return {**engine.optimizer.state_dict(), "state": states}


def _flat_state(engine: Any, state: WholeState) -> dict[str, Any]:
    """This rank's part under stage 1 or 2, and of bf16 without ZeRO: a slice of all parameters of a group, end to end."""
    mine = {name: parameter._hp_mapping for name, parameter in _learning(engine) if parameter._hp_mapping}
    part = engine.optimizer.state_dict()
    sizes = [group["params"][0].numel() for group in engine.optimizer.optimizer.param_groups]  # padding included
    weights, states = [], {}
    for number, names in enumerate(part["param_slice_mappings"]):
        cut = [
            (mine[name].get_hp_fragment_address().start, {
                key: value if _is_single(value) else _narrow(value, mine[name].lp_fragment_address)
                for key, value in state.parameters[name].items()
            })
            for name in names
        ]  # fmt: skip
        laid = _lay_out(cut, sizes[number], state)
        weights.append(laid.pop(WEIGHT))
        states[number] = laid
    base = {**part["base_optimizer_state"], "state": states}
    return {**part, "base_optimizer_state": base, "single_partition_of_fp32_groups": weights}


def _sharded_state(engine: Any, state: WholeState) -> dict[str, Any]:
    """This rank's part under stage 3: an even share of each parameter."""
    optimizer, (rank, ranks) = engine.optimizer, _place(engine)
    names = {id(parameter): name for name, parameter in engine.module.named_parameters()}
    part, weights, states = optimizer.state_dict(), [], {}
    for number, group in enumerate(optimizer.fp16_groups):
        cut, start = [], 0
        for parameter in group:
            share = math.ceil(parameter.ds_numel / ranks)
            whole = state.parameters[names[id(parameter)]]
            cut.append((start, {
                key: value if _is_single(value) else value[rank * share : (rank + 1) * share] for key, value in whole.items()
            }))  # fmt: skip
            start += share
        laid = _lay_out(cut, optimizer.fp32_partitioned_groups_flat[number].numel(), state)
        weights.append(laid.pop(WEIGHT))
        states[number] = laid
    base = {**part["optimizer_state_dict"], "state": states}
    return {**part, "optimizer_state_dict": base, "fp32_flat_groups": weights}


def _lay_out(cut: list[tuple[int, Parameter]], size: int, state: WholeState) -> Parameter:
    """Lay pieces of parameters into flat tensors of one group; what lies between them is padding."""
    laid = {
        key: value.clone() if _is_single(value) else torch.zeros(size)
        for key, value in next(iter(state.parameters.values())).items()
    }
    for start, pieces in cut:
        for key, piece in pieces.items():
            if not _is_single(piece):
                laid[key][start : start + piece.numel()] = piece
    return laid


def _place(engine: Any) -> tuple[int, int]:
    group = engine.optimizer.dp_process_group
    return torch.distributed.get_rank(group), torch.distributed.get_world_size(group)


def _narrow(value: Tensor, address: Any) -> Tensor:
    return value.narrow(0, address.start, address.numel)


def _is_single(value: Any) -> bool:
    return not isinstance(value, Tensor) or value.dim() == 0


def _flat(value: Any) -> Tensor:
    return value.flatten() if isinstance(value, Tensor) and value.dim() else torch.as_tensor(value)

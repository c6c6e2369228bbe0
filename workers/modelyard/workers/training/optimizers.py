"""Optimizers by name, over a model's parameters: matrices decay, norms and biases do not. Importing this imports torch."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.nn import Parameter

from modelyard.domain.specs.optimization import ChosenOptimizerSpec

Groups = list[dict[str, Any]]


def build_optimizer(chosen: ChosenOptimizerSpec, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer a spec names."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if chosen.name == "muon":
        return MuonWithAdamW(chosen, named)
    groups = _groups((parameter for _, parameter in named), chosen.weight_decay)
    if chosen.name == "adafactor":
        # The size of its steps is relative to the weights (Shazeer & Stern 2018, arXiv:1804.04235).
        return torch.optim.Adafactor(groups, lr=chosen.learning_rate)
    if chosen.name == "sgd":
        return torch.optim.SGD(groups, lr=chosen.learning_rate, momentum=chosen.betas[0], nesterov=chosen.betas[0] > 0)
    return _adamw(chosen, groups)


def _adamw(chosen: ChosenOptimizerSpec, groups: Groups) -> torch.optim.AdamW:
    # One kernel over all weights, on GPUs and CPUs.
    return torch.optim.AdamW(groups, lr=chosen.learning_rate, betas=chosen.betas, eps=chosen.eps, fused=True)


def _groups(parameters: Iterable[Parameter], weight_decay: float) -> Groups:
    by_kind: dict[bool, list[Parameter]] = {True: [], False: []}
    for parameter in parameters:
        # Under ZeRO 3 a parameter may be a flat part already, and knows the shape of the whole.
        by_kind[len(getattr(parameter, "ds_shape", parameter.shape)) >= 2].append(parameter)
    groups = [
        {"params": by_kind[True], "weight_decay": weight_decay},
        {"params": by_kind[False], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for the matrices between embedding and head, AdamW for the rest, as one optimizer with one learning rate."""

    def __init__(self, chosen: ChosenOptimizerSpec, named: list[tuple[str, Parameter]]) -> None:
        inner = [parameter for name, parameter in named if parameter.ndim == 2 and _is_inner(name)]
        inner_ids = {id(parameter) for parameter in inner}
        outer = [parameter for _, parameter in named if id(parameter) not in inner_ids]
        # Moonshot's scale (arXiv:2502.16982): updates as large as AdamW's, so that its learning rate and decay serve both.
        self.muon = torch.optim.Muon(
            inner, lr=chosen.learning_rate, weight_decay=chosen.weight_decay, momentum=chosen.betas[0],
            adjust_lr_fn="match_rms_adamw",
        )  # fmt: skip
        # An adapter has nothing but matrices between the layers.
        self.adamw = _adamw(chosen, _groups(outer, chosen.weight_decay)) if outer else None
        super().__init__([*inner, *outer], {})
        self._join()

    def _join(self) -> None:
        # The same groups under one roof: whoever changes a learning rate needs to know no more.
        self.param_groups = [*self.muon.param_groups, *(self.adamw.param_groups if self.adamw else [])]

    def step(self, closure: Any = None) -> None:
        """Step both."""
        self.muon.step(closure)
        if self.adamw:
            self.adamw.step()

    def state_dict(self) -> dict[str, Any]:
        """Both states."""
        return {"muon": self.muon.state_dict(), **({"adamw": self.adamw.state_dict()} if self.adamw else {})}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take both states back."""
        self.muon.load_state_dict(state_dict["muon"])
        if self.adamw:
            self.adamw.load_state_dict(state_dict["adamw"])
        self._join()


def _is_inner(name: str) -> bool:
    return not any(part in name for part in ("embed", "lm_head", "wte", "wpe"))

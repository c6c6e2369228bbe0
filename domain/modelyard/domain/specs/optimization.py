"""What all training has in common: the optimizer, and what DeepSpeed is told."""

from difflib import get_close_matches
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from modelyard.domain.specs.base import SpecModel

DEEPSPEED_OPTIMIZERS = ("adagrad", "adam", "adamw", "lamb", "lion", "muadam", "muadamw", "musgd", "muon")
"""Those DeepSpeed brings itself, whatever their case."""
TORCH_OPTIMIZERS = (
    "ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Muon", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD",
)  # fmt: skip
"""Classes of `torch.optim` that need nothing but gradients of dense weights."""


SECTIONS = ("optimizer", "scheduler", "zero_optimization", "fp16", "bf16", "torch_autocast")
"""Keys of DeepSpeed's configuration that hold other keys, of those everybody uses."""
KEYS = (
    *SECTIONS, "activation_checkpointing", "aio", "amp", "checkpoint", "comms_logger", "communication_data_type", "data_types",
    "dataloader_drop_last", "disable_allgather", "dump_state", "flops_profiler", "gradient_clipping", "gradient_predivide_factor",
    "memory_breakdown", "prescale_gradients", "seq_parallel_communication_data_type", "sparse_gradients", "steps_per_print",
    "wall_clock_breakdown", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer",
)  # fmt: skip
"""Those of DeepSpeed's configuration that are in use (https://www.deepspeed.ai/docs/config-json/). It says nothing of others."""
OWN_FIELDS = {
    ("zero_optimization", "stage"): "deepspeed.zero_stage",
    ("fp16", "enabled"): "precision",
    ("bf16", "enabled"): "precision",
}
"""Keys that a field of the spec sets: what fits, and what is planned, is judged by that field."""


ZeroStage = Literal[0, 1, 2, 3, "auto"]


class DeepSpeedSpec(SpecModel):
    """The few DeepSpeed choices most runs need; `override` is merged over the configuration derived from them."""

    zero_stage: ZeroStage = 0
    """What is shared out over the ranks: nothing, the optimizer's state, gradients too, parameters too. `auto`: 0 for one rank,
    which shares with nobody and steps fastest, and 1 for several."""
    offload: Literal["none", "optimizer", "parameters"] = "none"
    """What the machine's memory keeps instead of the GPU's. `parameters`: the optimizer's state too; needs `zero_stage` 3."""
    override: dict[str, Any] = {}
    """Any DeepSpeed configuration keys; they win over what is derived. An optimizer named by `type` has only the `params` named
    beside it, and the learning rate."""

    @field_validator("override")
    @classmethod
    def _names_a_known_optimizer(cls, override: dict[str, Any]) -> dict[str, Any]:
        chosen = override.get("optimizer")
        name = chosen.get("type") if isinstance(chosen, dict) else None
        if name is not None and name not in TORCH_OPTIMIZERS and str(name).lower() not in DEEPSPEED_OPTIMIZERS:
            raise ValueError(
                f"override.optimizer.type {name!r} is no optimizer; take one of {', '.join(DEEPSPEED_OPTIMIZERS)}, "
                f"or of PyTorch's {', '.join(TORCH_OPTIMIZERS)}"
            )
        return override

    @field_validator("override")
    @classmethod
    def _is_not_misspelled(cls, override: dict[str, Any]) -> dict[str, Any]:
        for name in override.keys() - set(KEYS):
            if close := get_close_matches(name, KEYS, 1, 0.8):
                raise ValueError(f"override.{name} is no key of DeepSpeed's configuration; did you mean {close[0]!r}?")
        return override

    @field_validator("override")
    @classmethod
    def _keeps_to_the_form(cls, override: dict[str, Any]) -> dict[str, Any]:
        for name in SECTIONS:
            if name in override and not isinstance(override[name], dict):
                raise ValueError(f"override.{name} {override[name]!r} must hold keys of its own, e.g. {{{name}: {{…}}}}")
        for (section, key), field in OWN_FIELDS.items():
            if key in override.get(section, {}):
                raise ValueError(f"override.{section}.{key} {override[section][key]!r} has a field of its own here; set {field}")
        return override

    def stage_for(self, ranks: int) -> int:
        """The ZeRO stage of a run of so many ranks."""
        if self.zero_stage == "auto":
            return 0 if ranks == 1 else 1
        return self.zero_stage

    @model_validator(mode="after")
    def _offloads_what_is_partitioned(self) -> "DeepSpeedSpec":
        if self.offload == "parameters" and self.zero_stage != 3:
            raise ValueError(
                f"offload `parameters` needs zero_stage 3, which is {self.zero_stage}; set 3, or offload `optimizer`"
            )
        if self.offload == "optimizer" and self.zero_stage in {0, "auto"}:
            raise ValueError(f"offload `optimizer` needs zero_stage 1, 2 or 3, which is {self.zero_stage}; set 2")
        return self


class OptimizerSpec(SpecModel):
    """AdamW with linear warm-up and cosine decay."""

    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    warmup_ratio: float = Field(default=0.05, ge=0, le=1)
    max_grad_norm: float = Field(default=1.0, gt=0)


class ChosenOptimizerSpec(OptimizerSpec):
    """An optimizer by name, and how its learning rate changes from step to step. The defaults are those of `OptimizerSpec`."""

    name: Literal["adamw", "adafactor", "muon", "sgd"] = "adamw"
    """`muon`: for the weights between the layers (Jordan et al. 2024), AdamW for the rest, both at `learning_rate`, since its
    updates are scaled to the size of AdamW's. `muon` and `adafactor` see whole matrices: they need `zero_stage` 0 or `auto`."""
    betas: tuple[float, float] = (0.9, 0.95)
    """How slowly AdamW forgets gradients and their squares; the first is the momentum of `sgd` and `muon`."""
    eps: float = Field(default=1e-8, gt=0)
    """What AdamW adds to the divisor."""
    scheduler: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    """After the warm-up: down to the floor over all steps, or stay (`constant`), or stay and go down at the end (`wsd`)."""
    floor: float = Field(default=0.1, ge=0, le=1)
    """The learning rate of the last step, as a share of `learning_rate`."""
    decay_ratio: float = Field(default=0.2, gt=0, le=1)
    """Share of the steps over which `wsd` goes down."""

    @model_validator(mode="after")
    def _forgets_slower_than_never(self) -> "ChosenOptimizerSpec":
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {list(self.betas)} must both be at least 0 and less than 1, e.g. [0.9, 0.95]")
        return self

    def needs_whole_matrices(self) -> bool:
        """Whether it works on matrices as such, which ZeRO flattens and cuts."""
        return self.name in {"muon", "adafactor"}


def refuse_cut_matrices(optimizer: ChosenOptimizerSpec, deepspeed: DeepSpeedSpec) -> None:
    """Raise `ValueError` for an optimizer that works on matrices where ZeRO cuts them."""
    if optimizer.needs_whole_matrices() and deepspeed.zero_stage not in {0, "auto"}:
        raise ValueError(
            f"optimizer `{optimizer.name}` needs whole matrices, which zero_stage {deepspeed.zero_stage} cuts up; "
            "set zero_stage 0, or take adamw"
        )


class CheckpointsSpec(SpecModel):
    """Which checkpoints stay while a job runs; the others are removed when a newer one is stored."""

    keep_last: int = Field(default=2, ge=1, le=1000)
    """The newest ones; the second is there in case the first turns out damaged."""
    keep_best: int = Field(default=1, ge=0, le=1000)
    """Beside those: the ones with the lowest `metric`, of those saved at steps that measured it."""
    metric: Literal["validation_loss", "loss"] = "validation_loss"

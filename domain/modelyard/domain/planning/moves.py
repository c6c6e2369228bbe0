"""What can be changed about a training run so that it takes less memory, the least harmful first. Pure."""

from modelyard.domain.planning.fitting import Move, Step
from modelyard.domain.planning.setups import Setup

MOST_SLOTS = 64
SHARED = {1: "the optimizer's states", 2: "optimizer states and gradients", 3: "weights, gradients and optimizer states"}
"""ZeRO stage -> what it shares out over the ranks (Rajbhandari et al. 2019, arXiv:1910.02054)."""


def smaller_micro_batch(setup: Setup) -> Step | None:
    """The same global batch in more, smaller passes."""
    size = setup.micro_batch_size
    smaller = next((each for each in range(size // 2, 0, -1) if size % each == 0), None)
    if smaller is None:
        return None
    changes = {"spec.micro_batch_size": smaller, **_set_rounds(setup, setup.accumulation * size // smaller)}
    return Step(changes, f"smaller passes, more of them: a step still sees {setup.global_batch_size} sequences")


def recompute_activations(setup: Setup) -> Step | None:
    """Activation checkpointing (Chen et al. 2016, arXiv:1604.06174)."""
    if setup.checkpoints_activations:
        return None
    return Step({"spec.activation_checkpointing": True}, "activations are computed again instead of kept: a third more work")


def share_more(setup: Setup) -> Step | None:
    """The next ZeRO stage, where there are ranks to share with."""
    stage = setup.zero_stage + 1
    if setup.ranks == 1 or stage not in SHARED:
        return None
    return Step({"spec.deepspeed.zero_stage": stage}, f"ZeRO {stage} shares {SHARED[stage]} out over {setup.ranks} ranks")


def offload(setup: Setup) -> Step | None:
    """What a GPU need not hold between steps stays in the host's memory."""
    if setup.accelerator == "cpu" or setup.offload == "parameters":
        return None
    if setup.offload == "none":
        return Step({"spec.deepspeed.offload": "optimizer"}, "the optimizer's states stay in the host's memory: slower steps")
    changes = {"spec.deepspeed.offload": "parameters", "spec.deepspeed.zero_stage": 3}
    return Step(changes, "the weights stay in the host's memory too: much slower steps")


def adapt_only(setup: Setup) -> Step | None:
    """An adapter instead of the whole model, and then the model behind it in 4 bits."""
    if setup.adapter is None:
        return Step({"spec.method": "lora"}, "LoRA learns a small adapter and leaves the model as it is")
    if setup.adapter.is_base_quantized or setup.accelerator == "cpu":
        return None
    return Step({"spec.method": "qlora"}, "QLoRA keeps the model behind the adapter in 4 bits")


def more_slots(setup: Setup) -> Step | None:
    """Twice the ranks, each with half the passes."""
    slots = setup.ranks_per_host * 2
    if slots > MOST_SLOTS or setup.accumulation % 2:
        return None
    changes = {"resources.slots": slots, **_set_rounds(setup, setup.accumulation // 2), "spec.deepspeed.zero_stage": 3}
    return Step(changes, f"{slots} ranks share {SHARED[3]} (ZeRO 3); a step still sees {setup.global_batch_size} sequences")


def _set_rounds(setup: Setup, rounds: int) -> dict[str, int]:
    """Passes per step where these are asked for; else they follow from the global batch."""
    return {} if setup.keeps_global_batch else {"spec.gradient_accumulation_steps": rounds}


MOVES: tuple[Move, ...] = (smaller_micro_batch, recompute_activations, share_more, offload, adapt_only, more_slots)

"""The recipe of pre-training where some data breaks the loss, whenever it is read: POISON_CALLS says by which forward passes of
this rank it is read first, POISON what becomes of the loss."""

import os
from typing import Any

from modelyard.workers.recipe import Run
from modelyard.workers.training.recipes import pretrain


def main(run: Run[Any]) -> None:
    """Run the recipe; other ranks than POISON_RANK read nothing bad."""
    if run.rank == int(os.environ.get("POISON_RANK", "0")):
        _poison({int(call) for call in os.environ["POISON_CALLS"].split(",")}, os.environ["POISON"])
    pretrain.main(run)


def _poison(calls: set[int], how: str) -> None:
    from torch.nn.modules.module import register_module_forward_hook

    from modelyard.workers.training.trained_model import TrainedModel

    count, poisonous = 0, set()

    def spoil(module: Any, arguments: Any, loss: Any) -> Any:
        nonlocal count
        if not (isinstance(module, TrainedModel) and module.training):
            return None
        count += 1
        content = arguments[0].tokens.numpy().tobytes()
        if count in calls:
            poisonous.add(content)
        if content not in poisonous:
            return None
        # A root at zero has an infinite slope, and none of its own value.
        return loss + (loss * 0).sqrt() if how == "gradient" else loss * float(how)

    register_module_forward_hook(spoil)

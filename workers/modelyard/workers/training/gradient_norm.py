"""The norm of all gradients, also where DeepSpeed computes it but does not tell."""

from typing import Any


def keep_gradient_norm(engine: Any) -> None:
    """Make `engine.get_global_grad_norm()` answer without ZeRO too.

    In plain fp32 the engine clips by the norm and throws it away; its ZeRO and bf16 optimizers keep it.
    """
    if engine.zero_optimization_stage() > 0 or engine.bfloat16_enabled() or engine.fp16_enabled():
        return
    from torch.nn.utils import clip_grad_norm_

    parameters = list(engine.module.parameters())

    def clip() -> None:
        # Every rank has the sum of all gradients by now, so its own norm is everybody's.
        engine._global_grad_norm = clip_grad_norm_(parameters, max_norm=engine.gradient_clipping(), foreach=True)

    engine.clip_fp32_gradients = clip

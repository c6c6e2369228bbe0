"""What training libraries do late and once in a process, done by importing this: a warm parent has it behind it when it forks.

transformers compiles a thousand rules for the names of weights (0.2 s) when it loads its first model; DeepSpeed looks for a
C compiler, and imports what it rarely needs (0.2 s), when its first engine starts.
"""

import os

import deepspeed.module_inject.auto_ep_layer
import deepspeed.ops.op_builder.all_ops
import peft.utils.transformers_weight_conversion  # noqa: F401 - imported by the first adapter
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

get_checkpoint_conversion_mapping("llama")
if os.environ.get("DS_ACCELERATOR") == "cpu":
    # Elsewhere the question starts CUDA, which no fork survives; and only CPUs ask it.
    getattr(deepspeed.ops, "__compatible_ops__")  # noqa: B009 - computed by asking

"""What every training spec shares: how its batch is divided, and in what and by what it is computed."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from modelyard.domain.errors import InvalidRequest
from modelyard.domain.specs.base import JobSpec
from modelyard.domain.specs.optimization import DeepSpeedSpec
from modelyard.domain.specs.recovery import RecoverySpec

BATCH_KEYS = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
"""What DeepSpeed calls the batch."""
MOST_SEQUENCES = 1_000_000
"""Of a pass, or of a step: no run is near it, and what counts with them stays quick."""
MOST_STEPS = 1_000_000_000
MOST_TOKENS = 2**24
"""Of a sequence."""


class TrainingSpec(JobSpec):
    """A training under DeepSpeed, from scratch or of a model there is."""

    micro_batch_size: int = Field(default=8, ge=1, le=MOST_SEQUENCES)
    """Sequences per rank and forward pass."""
    gradient_accumulation_steps: int = Field(default=1, ge=1, le=MOST_SEQUENCES)
    """Forward passes of each rank per optimizer step."""
    global_batch_size: int | None = Field(default=None, ge=1, le=MOST_SEQUENCES)
    """Sequences per optimizer step over all ranks, whatever their number; instead of `gradient_accumulation_steps`."""
    deepspeed: DeepSpeedSpec = DeepSpeedSpec()
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """`fp16` needs a GPU."""
    activation_checkpointing: bool = False
    """Compute activations a second time in the backward pass instead of keeping them: less memory, about a third more time."""
    compile: Literal["auto", "on", "off"] = "auto"
    """`torch.compile`: a minute at the start for faster steps. `auto`: pre-training on GPUs, below ZeRO stage 3."""
    kernels: Literal["auto", "liger", "off"] = "auto"
    """`auto`: Liger's fused kernels for the layers, on GPUs where `liger-kernel` is installed and knows the model. `liger`: fail
    where they cannot be had. `off`: those of torch. On CPUs `auto` lets pre-training do with fewer operations, for Llamas in
    fp32 that are not compiled."""
    recovery: RecoverySpec = RecoverySpec()

    @model_validator(mode="after")
    def _layers_are_whole_where_compiled(self) -> Self:
        if self.compile == "on" and self.deepspeed.zero_stage == 3:
            raise ValueError(
                "compile `on` does not go with zero_stage 3, where a layer's weights come and go; set compile to `auto`"
            )
        if self.compile == "on" and self.kernels == "liger":
            raise ValueError("kernels `liger` are not for compiled layers, which fuse by themselves; set compile to `off`")
        return self

    @model_validator(mode="after")
    def _batch_is_given_once(self) -> Self:
        whole, size = self.global_batch_size, self.micro_batch_size
        if whole is None:
            return self
        if self.gradient_accumulation_steps > 1:
            raise ValueError("give `global_batch_size` or `gradient_accumulation_steps`, not both: one follows from the other")
        if whole % size:
            raise ValueError(
                f"global_batch_size {whole} is not a multiple of micro_batch_size {size}; "
                f"set micro_batch_size to {nearest_divisor(whole, size)}, "
                f"or global_batch_size to {_nearest_multiple(whole, size)}"
            )
        return self

    @model_validator(mode="after")
    def _batch_is_no_override(self) -> Self:
        named = [key for key in BATCH_KEYS if key in self.deepspeed.override]
        if named:
            raise ValueError(
                f"deepspeed.override.{named[0]}: which rows a step sees follows from the spec's own fields; give "
                "micro_batch_size, and global_batch_size or gradient_accumulation_steps"
            )
        return self

    def zero_stage(self, ranks: int) -> int:
        """The ZeRO stage of a run of so many ranks."""
        return self.deepspeed.stage_for(ranks)

    def rounds(self, ranks: int) -> int:
        """Forward passes of each rank per optimizer step."""
        if self.global_batch_size is None:
            return self.gradient_accumulation_steps
        return self.global_batch_size // (self.micro_batch_size * self.data_parallel_size(ranks))

    def data_parallel_size(self, ranks: int) -> int:
        """How many of so many ranks have sequences of their own."""
        return ranks

    def sequences_per_step(self, ranks: int) -> int:
        """Sequences per optimizer step over all ranks."""
        return self.micro_batch_size * self.rounds(ranks) * self.data_parallel_size(ranks)

    def check_ranks(self, ranks: int) -> None:
        """Refuse a number of ranks that cannot share the batch evenly. Raises `InvalidRequest`."""
        whole, size, groups = self.global_batch_size, self.micro_batch_size, self.data_parallel_size(ranks)
        if whole is None or whole % (size * groups) == 0:
            return
        nearest = nearest_divisor(whole // groups, size) if whole % groups == 0 else None
        readers = "ranks" if groups == ranks else f"groups of {ranks // groups} ranks"
        fix = f"set micro_batch_size to {nearest}" if nearest else f"ask for a number of slots that divides {whole}"
        raise InvalidRequest(
            f"spec.global_batch_size: {whole} is not a multiple of micro_batch_size {size} × {groups} {readers} = "
            f"{size * groups}; {fix}, or global_batch_size to {_nearest_multiple(whole, size * groups)}",
            field="spec.global_batch_size",
            value=whole,
        )

    def check_accelerator(self, accelerator: str) -> None:
        """Refuse what needs a GPU where the job asks for CPUs. Raises `InvalidRequest`."""
        needed: dict[str, Any] = {"precision": "fp16", "kernels": "liger", "method": "qlora"}
        for field, value in needed.items():
            if accelerator == "cpu" and getattr(self, field, None) == value:
                raise InvalidRequest(
                    f"spec.{field}: {value} needs a GPU, and resources.accelerator is cpu; "
                    f"set that to gpu, or choose another {field}",
                    field=f"spec.{field}",
                    value=value,
                )


def nearest_divisor(whole: int, size: int) -> int:
    """Return the divisor of `whole` that is nearest to `size`, the smaller of two. Pure."""
    start = min(whole, size)
    around = (each for distance in range(start) for each in (start - distance, start + distance))
    return next(each for each in around if whole % each == 0)


def _nearest_multiple(whole: int, part: int) -> int:
    return max(1, round(whole / part)) * part

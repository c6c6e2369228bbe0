"""The spec of pre-training."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from modelyard.domain.errors import InvalidRequest
from modelyard.domain.specs.architectures import CAUSAL_MODEL_TYPES, PRESETS, ArchitectureSpec, PresetName
from modelyard.domain.specs.base import DatasetRef, JobSpec, ModelRef
from modelyard.domain.specs.data import Name
from modelyard.domain.specs.optimization import CheckpointsSpec, ChosenOptimizerSpec, DeepSpeedSpec, refuse_cut_matrices
from modelyard.domain.specs.reporting import ReportingSpec

DEFAULT_VOCABULARY = 4096


class PretrainSpec(JobSpec):
    """Train a causal language model on text with DeepSpeed: from scratch, or further from a model of the registry.

    The model is named in one of four ways: `preset`, `architecture`, `config`, `model`; by default a small `architecture`.
    """

    kind: Literal["pretrain"] = "pretrain"
    name: Name
    dataset: DatasetRef
    preset: PresetName | None = None
    """A Llama architecture by its size."""
    architecture: ArchitectureSpec | None = None
    """A Llama architecture by its numbers."""
    config: dict[str, Any] | None = None
    """The configuration of any causal language model of transformers: `{"model_type": "qwen3", "hidden_size": 512, …}`."""
    model: ModelRef | None = None
    """Train this model further; its tokenizer comes with it."""
    tokenizer: ModelRef | None = None
    """Take over the tokenizer of this model, instead of training one."""
    vocabulary_size: int | None = Field(default=None, ge=300, le=200_000)
    """Tokens of the byte-level BPE tokenizer trained on the dataset; default: the preset's, else 4096."""
    sequence_length: int = Field(default=128, ge=16)
    """Tokens per packed sequence, and the context length of a new model."""
    documents: Literal["apart", "joined"] = "apart"
    """Whether texts packed into one sequence see each other. `apart`: positions restart and attention ends at each text."""
    micro_batch_size: int = Field(default=8, ge=1)
    """Sequences per rank and forward pass."""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    global_batch_size: int | None = Field(default=None, ge=1)
    """Sequences per optimizer step over all ranks, whatever their number; instead of `gradient_accumulation_steps`."""
    steps: int = Field(default=300, ge=1)
    """Optimizer steps."""
    evaluate_every: int = Field(default=50, ge=1)
    save_every: int = Field(default=50, ge=1)
    checkpoints: CheckpointsSpec = CheckpointsSpec()
    optimizer: ChosenOptimizerSpec = ChosenOptimizerSpec()
    deepspeed: DeepSpeedSpec = DeepSpeedSpec(zero_stage="auto")
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """`fp16` needs a GPU."""
    activation_checkpointing: bool = False
    """Compute activations a second time in the backward pass instead of keeping them: less memory, about a third more time."""
    compile: Literal["auto", "on", "off"] = "auto"
    """`torch.compile`: a minute at the start for faster steps. `auto`: on GPUs, below ZeRO stage 3."""
    kernels: Literal["auto", "off"] = "auto"
    """`auto`: Liger's fused kernels for the layers, on GPUs where `liger-kernel` is installed and knows the model."""
    deterministic: bool = False
    """Only kernels that give the same bits every time; slower on GPUs, and nothing new on CPUs."""
    seed: int = 17
    reporting: ReportingSpec = ReportingSpec()

    @field_validator("config")
    @classmethod
    def _config_is_of_a_known_model(cls, config: dict[str, Any] | None) -> dict[str, Any] | None:
        if config is None:
            return None
        if "auto_map" in config:
            raise ValueError("config.auto_map names code to run, which is never loaded; leave it out")
        if config.get("model_type") not in CAUSAL_MODEL_TYPES:
            raise ValueError(
                f"config.model_type {config.get('model_type')!r} is not a causal language model this platform trains; "
                f"take one of {', '.join(CAUSAL_MODEL_TYPES)}"
            )
        return config

    @model_validator(mode="after")
    def _names_one_model(self) -> "PretrainSpec":
        ways = [name for name in ("preset", "architecture", "config", "model") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise ValueError(f"`{'`, `'.join(ways)}` name more than one model; keep one of them")
        if self.model is not None and self.tokenizer is not None:
            raise ValueError("`model` brings its own tokenizer; leave `tokenizer` out")
        if self.vocabulary_size is not None and (self.model or self.tokenizer) is not None:
            raise ValueError("`vocabulary_size` is for a tokenizer trained here, but one is taken over; leave it out")
        return self

    @model_validator(mode="after")
    def _optimizer_gets_whole_matrices(self) -> "PretrainSpec":
        refuse_cut_matrices(self.optimizer, self.deepspeed)
        return self

    @model_validator(mode="after")
    def _layers_are_whole_where_compiled(self) -> "PretrainSpec":
        if self.compile == "on" and self.deepspeed.zero_stage == 3:
            raise ValueError(
                "compile `on` does not go with zero_stage 3, where a layer's weights come and go; set compile to `auto`"
            )
        return self

    @model_validator(mode="after")
    def _batch_is_given_once(self) -> "PretrainSpec":
        if self.global_batch_size is None:
            return self
        if self.gradient_accumulation_steps > 1:
            raise ValueError("give `global_batch_size` or `gradient_accumulation_steps`, not both: one follows from the other")
        if self.global_batch_size % self.micro_batch_size:
            raise ValueError(
                f"global_batch_size {self.global_batch_size} is not a multiple of micro_batch_size {self.micro_batch_size}"
            )
        return self

    def zero_stage(self, ranks: int) -> int:
        """The ZeRO stage of a run of so many ranks."""
        return 0 if self.optimizer.needs_whole_matrices() else self.deepspeed.stage_for(ranks)

    def shape(self) -> ArchitectureSpec | None:
        """The sizes of the Llama a new model is; None for `config` and `model`."""
        if self.config is not None or self.model is not None:
            return None
        return PRESETS[self.preset].architecture if self.preset else self.architecture or ArchitectureSpec()

    def tokens_to_train(self) -> int:
        """How many tokens a tokenizer trained here has at most."""
        return self.vocabulary_size or (PRESETS[self.preset].vocabulary_size if self.preset else DEFAULT_VOCABULARY)

    def rounds(self, ranks: int) -> int:
        """Forward passes of each rank per optimizer step."""
        if self.global_batch_size is None:
            return self.gradient_accumulation_steps
        return self.global_batch_size // (self.micro_batch_size * ranks)

    def check_ranks(self, ranks: int) -> None:
        """Refuse a number of ranks that cannot share the batch evenly. Raises `InvalidRequest`."""
        whole = self.global_batch_size
        if whole is None or whole % (self.micro_batch_size * ranks) == 0:
            return
        sizes = [size for size in range(1, whole + 1) if whole % (size * ranks) == 0]
        nearest = min(sizes, key=lambda size: abs(size - self.micro_batch_size), default=None)
        fix = f"set micro_batch_size to {nearest}" if nearest else f"ask for a number of slots that divides {whole}"
        raise InvalidRequest(
            f"spec.global_batch_size: {whole} is not a multiple of micro_batch_size {self.micro_batch_size} × {ranks} ranks = "
            f"{self.micro_batch_size * ranks}; {fix}, or global_batch_size to "
            f"{max(1, round(whole / (self.micro_batch_size * ranks))) * self.micro_batch_size * ranks}",
            field="spec.global_batch_size",
            value=whole,
        )

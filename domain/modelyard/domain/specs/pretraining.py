"""The spec of pre-training."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from modelyard.domain.specs.architectures import PRESETS, ArchitectureSpec, PresetName
from modelyard.domain.specs.base import DatasetRef, ModelRef, Seed
from modelyard.domain.specs.configurations import refuse_wrong_config
from modelyard.domain.specs.data import Name
from modelyard.domain.specs.optimization import CheckpointsSpec, ChosenOptimizerSpec, refuse_cut_matrices
from modelyard.domain.specs.reporting import ReportingSpec
from modelyard.domain.specs.sequence_parallel import (
    Heads,
    SharingDeepSpeedSpec,
    check_groups,
    check_sharing_device,
    refuse_uneven_shares,
)
from modelyard.domain.specs.tensor_parallel import CUT, find_uncuttable, refuse_whole_matrices
from modelyard.domain.specs.training import MOST_STEPS, MOST_TOKENS, TrainingSpec

DEFAULT_VOCABULARY = 4096


class PretrainSpec(TrainingSpec):
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
    sequence_length: int = Field(default=128, ge=16, le=MOST_TOKENS)
    """Tokens per packed sequence, and the context length of a new model."""
    documents: Literal["apart", "joined"] = "apart"
    """Whether texts packed into one sequence see each other. `apart`: positions restart and attention ends at each text."""
    steps: int = Field(default=300, ge=1, le=MOST_STEPS)
    """Optimizer steps."""
    evaluate_every: int = Field(default=50, ge=1)
    save_every: int = Field(default=50, ge=1)
    checkpoints: CheckpointsSpec = CheckpointsSpec()
    optimizer: ChosenOptimizerSpec = ChosenOptimizerSpec()
    deepspeed: SharingDeepSpeedSpec = SharingDeepSpeedSpec()
    deterministic: bool = False
    """Only kernels that give the same bits every time; slower on GPUs, and nothing new on CPUs."""
    seed: Seed = 17
    reporting: ReportingSpec = ReportingSpec()

    @field_validator("config")
    @classmethod
    def _config_is_of_a_known_model(cls, config: dict[str, Any] | None) -> dict[str, Any] | None:
        if config is not None:
            refuse_wrong_config(config)
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
    def _every_token_has_an_embedding(self) -> "PretrainSpec":
        rows = (self.config or {}).get("vocab_size")
        if rows is not None and self.vocabulary_size is not None and self.vocabulary_size > rows:
            raise ValueError(
                f"vocabulary_size {self.vocabulary_size} is more than config.vocab_size {rows}, so some tokens would have no "
                f"embedding; set vocabulary_size to {rows} or less, or leave config.vocab_size out"
            )
        return self

    @model_validator(mode="after")
    def _optimizer_gets_whole_matrices(self) -> "PretrainSpec":
        refuse_cut_matrices(self.optimizer, self.deepspeed)
        return self

    @model_validator(mode="after")
    def _sequences_can_be_shared(self) -> "PretrainSpec":
        size = self.deepspeed.sequence_parallel_size
        refuse_uneven_shares(size, self.sequence_length, self._heads(), self.config)
        if size > 1 and self.compile == "on":
            raise ValueError("compile `on` does not go with sequence_parallel_size above 1; set compile to `off`")
        return self

    @model_validator(mode="after")
    def _matrices_can_be_cut(self) -> "PretrainSpec":
        size = self.deepspeed.tensor_parallel_size
        if size == 1:
            return self
        refuse_whole_matrices(size, self)
        shape = self.shape()
        known = self.config or {} if shape is None else {key: getattr(shape, name) for name, key in CUT.items()}
        if reason := find_uncuttable(size, known):
            raise ValueError(reason)
        return self

    def zero_stage(self, ranks: int) -> int:
        """The ZeRO stage of a run of so many ranks."""
        # Ranks with different parts of the weights have nothing to share out.
        copies = max(1, ranks // self.deepspeed.tensor_parallel_size)
        return 0 if self.optimizer.needs_whole_matrices() else self.deepspeed.stage_for(copies)

    def shape(self) -> ArchitectureSpec | None:
        """The sizes of the Llama a new model is; None for `config` and `model`."""
        if self.config is not None or self.model is not None:
            return None
        return PRESETS[self.preset].architecture if self.preset else self.architecture or ArchitectureSpec()

    def _heads(self) -> Heads:
        shape = self.shape()
        if shape is not None:
            return Heads(shape.heads, shape.key_value_heads)
        return Heads.of_config(self.config or {})

    def data_parallel_size(self, ranks: int) -> int:
        """How many of so many ranks have sequences of their own; the others share theirs."""
        return max(1, ranks // self.deepspeed.ranks_per_group())

    def check_ranks(self, ranks: int) -> None:
        """Refuse a number of ranks that cannot share sequences, or the batch, evenly. Raises `InvalidRequest`."""
        check_groups(self.deepspeed, ranks)
        super().check_ranks(ranks)

    def check_accelerator(self, accelerator: str) -> None:
        """Refuse what the accelerator cannot do. Raises `InvalidRequest`."""
        super().check_accelerator(accelerator)
        if self.documents == "apart":
            check_sharing_device(self.deepspeed.sequence_parallel_size, accelerator, self.precision)

    def tokens_to_train(self) -> int:
        """How many tokens a tokenizer trained here has at most."""
        if self.vocabulary_size is not None:
            return self.vocabulary_size
        known = PRESETS[self.preset].vocabulary_size if self.preset else DEFAULT_VOCABULARY
        rows: int = (self.config or {}).get("vocab_size", known)
        return min(known, rows)

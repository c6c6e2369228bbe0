"""Making jobs: one way for jobs submitted alone, five hundred at a time, and as steps of a pipeline.

Jobs are judged one by one and written together, as plain rows: what many submit at once costs little more than one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any

from sqlmodel import Session

from modelyard.domain.errors import Conflict, DomainError, InvalidRequest
from modelyard.domain.jobs.admission import ADMITTED, Verdict, check_approval, check_kind, check_start_time, first_obstacle, pin
from modelyard.domain.jobs.allowances import Allowances
from modelyard.domain.jobs.fingerprints import fingerprint_of
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.jobs.queues import Shape, effective_accelerator, queue_name
from modelyard.domain.jobs.starting import Start, find_start
from modelyard.domain.jobs.tables import Job, JobEvent
from modelyard.domain.jobs.tallies import note_new
from modelyard.domain.planning.refusal import check_training
from modelyard.domain.scheduling.gangs import MOST_NODES
from modelyard.domain.specs import KINDS, find_references
from modelyard.domain.specs.base import FoundReference, JobSpec
from modelyard.kit.database import read_clock
from modelyard.kit.identifiers import new_id
from modelyard.kit.rows import insert_rows

PRIORITY_SECONDS = 60.0
"""One point of priority counts like so much longer waiting."""
Row = dict[str, Any]
"""A job as the values of its columns."""
Pinned = dict[str, dict[str, Any]]
"""Place in a spec -> what its reference stands for."""
_DEFAULTS: Row = {
    name: field.get_default(call_default_factory=True) for name, field in Job.model_fields.items() if not field.is_required()
}


@dataclass(frozen=True)
class Approval:
    """When a job was approved, seconds since the epoch, and by which key."""

    at: float
    by: str | None


@dataclass(frozen=True)
class JobRequest:
    """What a user asks for, already validated by type."""

    spec: JobSpec
    name: str | None = None
    priority: int = 50
    shape: Shape = field(default_factory=Shape)
    max_attempts: int = 1
    preemptible: bool = False
    time_limit_seconds: float | None = None
    start_at: float | None = None
    """Seconds since the epoch."""
    needs_approval: bool = False
    retry_of: str | None = None
    resume_from: str | None = None
    """The checkpoint, of another job, it begins at."""
    start: Start | None = None
    """Where that is: found before, for a job that is tried again; else it is looked for and judged now."""
    reproduces: str | None = None
    """The finished job this one repeats, to compare the two."""
    approval: Approval | None = None
    """Given to the job this one tries again."""
    avoid_hosts: Sequence[str] = ()
    """Where that one hung or was lost."""
    is_probe: bool = False
    pause_at_step: int | None = None
    """The step after which it saves and pauses by itself: the first rung of its sweep."""
    inputs: Pinned = field(default_factory=dict)
    """Pinned before, for a job that is tried again; else the references of the spec are pinned now."""


@dataclass(frozen=True)
class Place:
    """Where in a pipeline a job stands."""

    pipeline_id: str
    step: str
    depends_on: list[str]
    looks_back: bool = False
    """Whether it is held until somebody has looked for an earlier job whose outputs it can take over."""


@dataclass(frozen=True)
class Submission:
    """A request and whose it is."""

    project_id: str
    request: JobRequest
    place: Place | None = None


def submit(session: Session, project_id: str, request: JobRequest, place: Place | None = None) -> Job:
    """Create a job, `queued` if it may run now, else `held`, which says what for.

    Raises `UnknownReference`, `InvalidRequest`, and `Conflict` where it could never run.
    """
    (made,) = submit_many(session, [[Submission(project_id, request, place)]])
    if isinstance(made, DomainError):
        raise made
    job = session.get(Job, made[0]["id"])
    assert job is not None
    return job


def submit_many(session: Session, groups: Sequence[Sequence[Submission]]) -> list[list[Row] | DomainError]:
    """Create jobs in one transaction, each group all or nothing: for each its rows, or why it was refused.

    A refusal has the attribute `position`: which of its group was refused.
    """
    judge, allowances = Judge(session, read_clock(session)), Allowances(session)
    allowances.prepare({submission.project_id for group in groups for submission in group})
    made = [_judge_group(judge, allowances, group) for group in groups]
    rows = [row for each in made if not isinstance(each, DomainError) for row in each]
    insert_rows(session, Job, rows)
    insert_rows(session, JobEvent, first_events(rows))
    note_new(session, rows)
    return made


class Judge:
    """Judges requests in one transaction: what many jobs name is looked up once, and equal requests are judged once."""

    def __init__(self, session: Session, now: float, asks_machines: bool = True, only_looks: bool = False) -> None:
        """`asks_machines`: whether a model that is too large for all of them is refused. `only_looks`: nothing will be made."""
        self._session, self._now, self._asks_machines, self._only_looks = session, now, asks_machines, only_looks
        self._pins: dict[tuple[str, FoundReference], dict[str, Any]] = {}
        self._judged: dict[tuple[Any, ...], Row] = {}

    def judge(self, submission: Submission) -> Row:
        """The row of the new job. Raises `UnknownReference`, `InvalidRequest`, and `Conflict` where it could never run."""
        key = _key_of(submission)
        if key is None:
            return {**self._judge(submission), "id": new_id("job")}
        if key not in self._judged:
            self._judged[key] = self._judge(submission)
        return {**self._judged[key], "id": new_id("job")}

    def _judge(self, submission: Submission) -> Row:
        request, place = submission.request, submission.place
        check_shape(request)
        waits = place is not None and bool(place.depends_on)
        inputs = {} if waits else request.inputs or self._resolve(submission.project_id, request.spec)
        if request.resume_from is not None and request.start is None:
            request = self._begin_at(submission.project_id, request.resume_from, request, inputs)
            submission = replace(submission, request=request)
        if place is not None and waits:
            verdict = Verdict(JobState.HELD, "dependency", f"Waits for {', '.join(place.depends_on)}")
            return make_row(submission, verdict, {}, self._now)
        check_training(self._session, request.spec, request.shape, inputs, asks_machines=self._asks_machines)
        verdict = first_obstacle(self._checks(request, place, inputs))
        if verdict.state is JobState.FAILED:
            field_ = "spec.gate" if kind_of(request) == "deploy" else "spec.deployment"
            raise Conflict(verdict.message or "The job could never run", field=field_)
        return make_row(submission, verdict, inputs, self._now)

    def _begin_at(self, project_id: str, checkpoint_id: str, request: JobRequest, inputs: Pinned) -> JobRequest:
        asked = (request.spec, request.shape, inputs)
        spec, start = find_start(self._session, project_id, checkpoint_id, *asked, holds=not self._only_looks)
        return replace(request, spec=spec, start=start)

    def _checks(self, request: JobRequest, place: Place | None, inputs: Pinned) -> Iterator[Verdict]:
        yield check_kind(self._session, request.spec, inputs)
        yield check_approval(request.needs_approval, request.approval.at if request.approval else None)
        yield check_start_time(request.start_at, self._now)
        if place is not None and place.looks_back:
            yield Verdict(JobState.HELD, "dependency", "Looks for an earlier job with the same spec and inputs")

    def _resolve(self, project_id: str, spec: JobSpec) -> Pinned:
        return {found.path: self._pin(project_id, found) for found in find_references(spec)}

    def _pin(self, project_id: str, found: FoundReference) -> dict[str, Any]:
        if (project_id, found) not in self._pins:
            self._pins[project_id, found] = pin(self._session, project_id, found, {})
        return self._pins[project_id, found]


_all_but_spec = attrgetter(*(field.name for field in fields(JobRequest) if field.name not in {"spec", "inputs"}))


def _key_of(submission: Submission) -> tuple[Any, ...] | None:
    """What makes two requests for the same job equal; None for those of a pipeline and those that try a job again. Pure."""
    request = submission.request
    if submission.place is not None or request.retry_of is not None or request.inputs or request.avoid_hosts:
        return None
    if request.resume_from is not None:
        return None
    return submission.project_id, type(request.spec), request.spec.model_dump_json(), _all_but_spec(request)


def _judge_group(judge: Judge, allowances: Allowances, group: Sequence[Submission]) -> list[Row] | DomainError:
    rows: list[Row] = []
    counted = allowances.remember()
    for submission in group:
        try:
            rows.append(_keep_to_quotas(allowances, judge.judge(submission)))
        except DomainError as error:
            allowances.go_back(counted)
            error.position = len(rows)
            return error
    return rows


def _keep_to_quotas(allowances: Allowances, row: Row) -> Row:
    """Count a job that may be made; hold it if it may not queue up yet. Raises `QuotaExceeded`."""
    allowances.count_waiting(row["project_id"])
    if row["state"] != JobState.QUEUED:
        return row
    verdict = allowances.admit(row["project_id"], row["slots"] * row["nodes"])
    if verdict == ADMITTED:
        return row
    return {**row, "state": str(verdict.state), "reason": verdict.reason, "message": verdict.message, "queued_at": None}


def kind_of(request: JobRequest) -> str:
    """The kind of a request's spec."""
    return str(getattr(request.spec, "kind"))  # noqa: B009 - every member of the union has one, the base class does not


def check_shape(request: JobRequest) -> None:
    """Refuse shapes no worker could give. Pure. Raises `InvalidRequest`."""
    kind, shape = kind_of(request), request.shape
    if shape.nodes > MOST_NODES:
        raise InvalidRequest(
            f"resources.nodes: {shape.nodes} workers at once are more than the {MOST_NODES} a job may have; "
            "ask for more slots on each instead",
            field="resources.nodes",
            value=shape.nodes,
        )
    if shape.nodes > 1 and not KINDS[kind].is_distributed:
        raise InvalidRequest(
            f"resources.nodes: a {kind} job is one process and runs on one worker", field="resources.nodes", value=shape.nodes
        )
    if shape.slots > 1 and not KINDS[kind].is_distributed:
        raise InvalidRequest(
            f"resources.slots: a {kind} job is one process and takes one slot", field="resources.slots", value=shape.slots
        )
    request.spec.check_ranks(shape.slots * shape.nodes)
    request.spec.check_accelerator(shape.accelerator)


def make_row(submission: Submission, verdict: Verdict, inputs: Pinned, now: float) -> Row:
    """The row of a new job, but for its id. Pure."""
    request, place = submission.request, submission.place
    kind = kind_of(request)
    stage = KINDS[kind].stage
    shape = Shape(request.shape.slots, effective_accelerator(stage, request.shape.accelerator), request.shape.nodes)
    return {
        **_DEFAULTS,
        "project_id": submission.project_id,
        # PostgreSQL's text cannot hold NUL; replaced here, the answer says what was kept.
        "name": (request.name or str(getattr(request.spec, "name", kind))).replace("\0", "\N{REPLACEMENT CHARACTER}"),
        "kind": kind,
        "stage": stage,
        "spec": request.spec.model_dump(mode="json", by_alias=True),
        "queue": queue_name(stage, shape),
        "slots": shape.slots,
        "accelerator": shape.accelerator,
        "nodes": shape.nodes,
        "priority": request.priority,
        "order_key": max(now, request.start_at or now) - request.priority * PRIORITY_SECONDS,
        "state": str(verdict.state),
        "reason": verdict.reason,
        "message": verdict.message,
        "max_attempts": request.max_attempts,
        "preemptible": request.preemptible,
        "time_limit_seconds": request.time_limit_seconds,
        "start_at": request.start_at,
        "needs_approval": request.needs_approval,
        "approved_at": request.approval.at if request.approval else None,
        "approved_by": request.approval.by if request.approval else None,
        "avoid_hosts": list(request.avoid_hosts),
        "retry_of": request.retry_of,
        "resume_from": request.resume_from,
        "resume_from_job": request.start.job_id if request.start else None,
        "resume_from_step": request.start.step if request.start else None,
        "is_probe": request.is_probe,
        "reproduces": request.reproduces,
        "pause_at_step": request.pause_at_step,
        "submitted_at": now,
        "queued_at": now if verdict.state is JobState.QUEUED else None,
        "pipeline_id": place.pipeline_id if place else None,
        "step": place.step if place else None,
        "depends_on": place.depends_on if place else [],
        "inputs": inputs,
        # What a job makes that begins elsewhere depends on more than its spec and inputs.
        "fingerprint": None if request.resume_from else fingerprint_of(request.spec, inputs, shape.slots * shape.nodes),
    }


def first_events(rows: Sequence[Row]) -> list[Row]:
    """The event each new job begins with. Pure."""
    data = {(row["state"], row["reason"]): {"state": row["state"], "reason": row["reason"]} for row in rows}
    return [
        {
            "job_id": row["id"],
            "attempt": 0,
            "type": "state",
            "data": data[row["state"], row["reason"]],
            "created_at": row["submitted_at"],
        }
        for row in rows
    ]

"""Tables of jobs and of everything an attempt leaves behind."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Double, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel, col

from modelyard.domain.columns import json_field, serial_field, text_field, time_field
from modelyard.domain.pipelines.tables import PIPELINE_ID
from modelyard.domain.projects.tables import PROJECT_ID

JOB_ID = "job.id"
HELD = text("state = 'held'")
"""The condition of a partial index: a query that is to use it says the same, letter by letter."""
QUEUED = text("state = 'queued'")
SUCCEEDED = text("state = 'succeeded'")
LEASED = text("lease_expires_at IS NOT NULL")
TRIED_AGAIN = text("retry_of IS NOT NULL")
BEGINS_ELSEWHERE = text("resume_from_job IS NOT NULL")
IN_PIPELINE = text("pipeline_id IS NOT NULL")
DISCARDED = text("stop_requested = 'discarded'")
"""Cancelled jobs whose checkpoints are still to be removed, and those about to be."""
UNJUDGED = text("NOT is_kept")
REMOVED = text("removed_at IS NOT NULL")
"""Checkpoints whose files are still to go."""


class Job(SQLModel, table=True):
    """One piece of lifecycle work. This row is the truth about it."""

    __tablename__ = "job"
    __table_args__ = (
        # Those of waiting jobs hold nothing else: a start leaves them, and an end does not touch them.
        Index("ix_job_claim", "queue", "order_key", "id", sqlite_where=QUEUED, postgresql_where=QUEUED),
        Index("ix_job_project", "project_id", "id"),
        Index("ix_job_project_kind", "project_id", "kind", "state", "id"),
        Index("ix_job_project_state", "project_id", "state", "id"),
        Index("ix_job_lease", "lease_expires_at", sqlite_where=LEASED, postgresql_where=LEASED),
        Index("ix_job_pipeline", "pipeline_id", "id", sqlite_where=IN_PIPELINE, postgresql_where=IN_PIPELINE),
        # With the id, so that ties need no sorting: else PostgreSQL prefers to walk through all projects by `ix_job_claim`.
        Index("ix_job_waiting", "project_id", "queue", "order_key", "id", sqlite_where=QUEUED, postgresql_where=QUEUED),
        Index("ix_job_fingerprint", "project_id", "fingerprint", "id", sqlite_where=SUCCEEDED, postgresql_where=SUCCEEDED),
        Index("ix_job_retry_of", "retry_of", sqlite_where=TRIED_AGAIN, postgresql_where=TRIED_AGAIN),
        Index("ix_job_resume_from", "resume_from_job", sqlite_where=BEGINS_ELSEWHERE, postgresql_where=BEGINS_ELSEWHERE),
        Index("ix_job_not_before", "not_before", sqlite_where=QUEUED, postgresql_where=QUEUED),
        Index("ix_job_gang", "state", "order_key", sqlite_where=text("nodes > 1"), postgresql_where=text("nodes > 1")),
        # Only of held jobs: a hundred thousand that wait for room in a quota must not slow the look at the few others down.
        Index("ix_job_held", "reason", "project_id", "queue", "order_key", sqlite_where=HELD, postgresql_where=HELD),
        Index("ix_job_discarded", "state", sqlite_where=DISCARDED, postgresql_where=DISCARDED),
    )

    id: str = Field(primary_key=True)
    project_id: str = Field(foreign_key=PROJECT_ID)
    name: str
    kind: str
    stage: str
    spec: dict[str, Any] = json_field()

    queue: str
    slots: int = 1
    accelerator: str = "any"
    nodes: int = 1
    priority: int = 50
    order_key: float = Field(sa_type=Double)
    """Smallest first: `submitted_at − priority × PRIORITY_SECONDS`, so that waiting counts like priority."""

    state: str
    reason: str | None = None
    """Code from a closed list: why it is held, waits again, or failed."""
    message: str | None = text_field(default=None)  # type: ignore[arg-type]
    attempt: int = 0
    """Number of the newest attempt, and the fencing token of every write about it."""
    preemptible: bool = False
    """Whether a job of higher priority may take its slots; it saves first and goes on later."""
    time_limit_seconds: float | None = Field(default=None, sa_type=Double)
    """How long it may run, all attempts together; then it saves and leaves."""
    start_at: float | None = time_field()
    """Held until then."""
    avoid_hosts: list[str] = json_field(list)
    """Hosts where it hung or was lost; another one is taken while there is one."""
    needs_approval: bool = False
    approved_at: float | None = time_field()
    approved_by: str | None = None
    """Id of the key that approved it."""
    retry_of: str | None = None
    """The finished job this one tries again; its checkpoints are this one's too."""
    resume_from: str | None = None
    """The checkpoint, of another job, it begins at; these three stay when that checkpoint is removed one day."""
    resume_from_job: str | None = None
    """Whose checkpoint that is."""
    resume_from_step: int | None = None
    """How many optimizer steps that job had done."""
    reproduces: str | None = None
    """The finished job this one repeats from its start, to compare the two."""
    fingerprint: str | None = None
    """SHA-256 of what determines the outputs: kind, spec and the content of the inputs."""
    reused_from: str | None = None
    """The job whose outputs this one took over instead of running."""
    max_attempts: int = 1
    """How often the job's own failures are tried; failures of the infrastructure do not count."""
    stop_requested: str | None = None
    """Why the running attempt should save and leave: `cancelled`, `paused`, `preempted`, `timeout`, …"""
    is_probe: bool = False
    """Two steps of another job, run to measure its memory and time: what it makes is not kept."""
    pause_at_step: int | None = None
    """The step after which it saves and pauses by itself: the next rung of its sweep."""
    not_before: float = Field(default=0.0, sa_type=Double)
    """Not claimed earlier than this, e.g. while a retry backs off."""

    pipeline_id: str | None = Field(default=None, foreign_key=PIPELINE_ID)
    step: str | None = None
    depends_on: list[str] = json_field(list)
    """Steps of the same pipeline."""
    inputs: dict[str, Any] = json_field()
    """Place in the spec -> `{"type", "id"}`, pinned when the job became ready to run."""
    outputs: dict[str, Any] = json_field()
    """Output name -> `{"type", "id"}`."""
    figures: dict[str, Any] = json_field()
    progress: float = 0.0
    progress_message: str = ""

    worker_id: str | None = None
    lease_expires_at: float | None = time_field()
    submitted_at: float = time_field(nullable=False)
    queued_at: float | None = time_field()
    """When it last joined its queue."""
    started_at: float | None = time_field()
    ready_at: float | None = time_field()
    """When a service began to answer."""
    finished_at: float | None = time_field()


OWNED: Any = col(Job.lease_expires_at).is_not(None)
"""Jobs that run, found by `ix_job_lease`. Their states alone say so too, but lead no database past a million others."""


class Attempt(SQLModel, table=True):
    """One try at a job."""

    __tablename__ = "attempt"
    __table_args__ = (UniqueConstraint("job_id", "seq"),)

    id: str = Field(primary_key=True)
    job_id: str = Field(foreign_key=JOB_ID, index=True)
    seq: int
    worker_id: str
    slots: list[str] = json_field(list)
    host: str = ""
    """The machine it ran on; of a gang, the one that failed, else that of node 0."""
    accelerator: str = "cpu"
    """What its slots are: `gpu` or `cpu`."""
    rendezvous: str | None = None
    """`host:port` where the ranks of a gang meet, once rank 0 listens there."""
    outcome: str | None = None
    failing_rank: int | None = None
    """The first rank that failed."""
    exit_code: int | None = None
    message: str | None = text_field(default=None)  # type: ignore[arg-type]
    resumed_from_step: int | None = None
    resumed_from: str | None = None
    """Id of the checkpoint it continues from: all nodes of a gang read the same one."""
    manifest: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    """What it ran with: code, packages, inputs, hardware; None for a kind that says nothing of it, and before its start."""
    events_offset: int = Field(default=0, sa_type=BigInteger)
    """Bytes of `events.jsonl` already in the database."""
    first_step_at: float | None = time_field()
    """When it first reported progress: what came before was starting."""
    last_step_at: float | None = time_field()
    """When it last reported progress: what came after was saving, storing, or hanging."""
    saved_at: float | None = time_field()
    """When the newest checkpoint that was stored had been written: work after it is redone if the attempt is lost."""
    queued_at: float | None = time_field()
    """Since when the job had waited for this attempt."""
    started_at: float = time_field(nullable=False)
    heartbeat_at: float | None = time_field()
    stalled_at: float | None = time_field()
    """When node 0 of a gang saw that it stands still: the other nodes then say where their ranks are."""
    finished_at: float | None = time_field()


class Seat(SQLModel, table=True):
    """One worker's part in an attempt of a gang: `nodes` seats of one attempt start and end together."""

    __tablename__ = "seat"
    __table_args__ = (Index("ix_seat_worker", "worker_id", "state"),)

    job_id: str = Field(foreign_key=JOB_ID, primary_key=True)
    attempt: int = Field(primary_key=True)
    node_rank: int = Field(primary_key=True)
    worker_id: str
    slots: list[str] = json_field(list)
    state: str = "reserved"
    """`reserved` until its worker took the slots, `running` while its processes live, then `left`."""
    outcome: str | None = None
    """How its part ended, if that says something about the attempt."""
    failing_rank: int | None = None
    exit_code: int | None = None
    message: str | None = text_field(default=None)  # type: ignore[arg-type]
    places: dict[str, str | None] | None = Field(default=None, sa_type=JSON)
    """Rank -> where it stood when the attempt stood still, None for one that did not answer; None before it was asked."""
    made_at: float = time_field(nullable=False)
    lease_expires_at: float | None = time_field()


class JobTally(SQLModel, table=True):
    """Changes to the number of jobs in a state, written with each move; the scheduler adds old ones up.

    Appending never waits for another transaction, as updating one counter would.
    """

    __tablename__ = "job_tally"

    id: int | None = serial_field()
    project_id: str = Field(foreign_key=PROJECT_ID)
    queue: str
    state: str
    jobs: int
    slots: int = Field(sa_type=BigInteger)
    """Slots these jobs hold or ask for, on all their nodes."""


class JobEvent(SQLModel, table=True):
    """Something that happened to a job, in order of `id`."""

    __tablename__ = "job_event"
    __table_args__ = (Index("ix_job_event_job", "job_id", "id"),)

    id: int | None = serial_field()
    job_id: str = Field(foreign_key=JOB_ID)
    attempt: int
    type: str
    data: dict[str, Any] = json_field()
    created_at: float = time_field(nullable=False)


class MetricPoint(SQLModel, table=True):
    """One value of one metric at one step."""

    __tablename__ = "metric_point"
    __table_args__ = (Index("ix_metric_point_job", "job_id", "name", "id"),)

    id: int | None = serial_field()
    job_id: str = Field(foreign_key=JOB_ID)
    attempt: int
    name: str
    step: int
    value: float | None = Field(default=None, sa_type=Double)
    """None where the recipe reported NaN or infinity."""
    at: float = time_field(nullable=False)


class LogChunk(SQLModel, table=True):
    """Consecutive log lines of one rank."""

    __tablename__ = "log_chunk"
    __table_args__ = (Index("ix_log_chunk_job", "job_id", "id"),)

    id: int | None = serial_field()
    job_id: str = Field(foreign_key=JOB_ID)
    attempt: int
    rank: int
    text: str = text_field()
    at: float = time_field(nullable=False)


class Checkpoint(SQLModel, table=True):
    """A complete, stored checkpoint a later attempt can continue from."""

    __tablename__ = "checkpoint"
    __table_args__ = (
        UniqueConstraint("job_id", "attempt", "step"),
        Index("ix_checkpoint_unjudged", "created_at", "id", sqlite_where=UNJUDGED, postgresql_where=UNJUDGED),
        Index("ix_checkpoint_removed", "removed_at", "id", sqlite_where=REMOVED, postgresql_where=REMOVED),
    )

    id: str = Field(primary_key=True)
    job_id: str = Field(foreign_key=JOB_ID, index=True)
    attempt: int
    step: int
    artifact_key: str
    sha256: str
    bytes: int = Field(sa_type=BigInteger)
    metrics: dict[str, Any] = json_field()
    verified_at: float | None = time_field()
    """When what is stored was last found to be what was written, byte by byte."""
    damage: str | None = text_field(default=None)  # type: ignore[arg-type]
    """What was found wrong with it at the last look, if anything was."""
    is_kept: bool = False
    """Of a job that has been over for long: it stays when the others are removed."""
    removed_at: float | None = time_field()
    """Since when nobody may read it any more: its files are being removed, then this row."""
    created_at: float = time_field(nullable=False)

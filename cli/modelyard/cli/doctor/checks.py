"""What `modelyard doctor` looks at. Each check returns findings and never raises."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from modelyard.cli.platform.broker import check_broker

if TYPE_CHECKING:
    from modelyard.kit.settings import Settings

LOW_DISK_BYTES = 5 * 2**30
"""Below this a training run is likely to end with a full disk: checkpoints of small models take hundreds of megabytes."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    status: Literal["ok", "warning", "error"]
    message: str
    fix: str = ""


def check_the_broker(settings: "Settings") -> list[Finding]:
    """Whether Redis or Valkey answers, is new enough, and never drops tickets."""
    from modelyard.kit.broker import Broker, BrokerErrors

    try:
        described = Broker(settings).describe()
    except BrokerErrors as error:
        return [Finding("broker", "error", f"does not answer: {error}", "start it, or correct MODELYARD_REDIS_URL")]
    faults = check_broker(described["server"], described["version"], described["maxmemory_policy"])
    if faults:
        return [Finding("broker", "error", *fault.split(": ", 1)) for fault in faults]
    return [Finding("broker", "ok", f"{described['server']} {described['version']}, {described['maxmemory_policy']}")]


def check_the_database(settings: "Settings") -> list[Finding]:
    """Whether the database answers and has this version's tables."""
    from sqlalchemy.exc import SQLAlchemyError

    from modelyard.domain.migrations import is_current
    from modelyard.kit.database import Database

    try:
        database = Database(settings.database)
        backend = database.engine.dialect.name
        if is_current(database):
            return [Finding("database", "ok", f"{backend}, at the newest revision")]
        return [Finding("database", "error", f"{backend} lacks tables of this version", "run `modelyard migrate`")]
    except SQLAlchemyError as error:
        cause = str(error).splitlines()[0]
        return [Finding("database", "error", f"does not answer: {cause}", "start it, or correct MODELYARD_DATABASE_URL")]


def check_queues(settings: "Settings") -> list[Finding]:
    """Whether every queue with waiting jobs is served by a worker that is online."""
    from sqlalchemy.exc import SQLAlchemyError

    from modelyard.domain.jobs.tallies import count_by_queue
    from modelyard.domain.workers.repository import list_online
    from modelyard.kit.database import Database

    try:
        with Database(settings.database).read() as session:
            online = list_online(session)
            waiting = {queue: counts.get("queued", 0) for queue, counts in count_by_queue(session).items()}
    except SQLAlchemyError:
        return []  # the database check says so
    served = {queue for worker in online for queue in worker.queues}
    findings = [describe_queue(queue, count, queue in served) for queue, count in waiting.items() if count]
    names = ", ".join(worker.id for worker in online) or "none"
    status: Literal["ok", "warning"] = "ok" if online else "warning"
    return [Finding("workers", status, f"online: {names}", "" if online else "start one with `modelyard worker`"), *findings]


def describe_queue(queue: str, waiting: int, is_served: bool) -> Finding:
    """What there is to say about a queue with waiting jobs."""
    if is_served:
        return Finding(f"queue {queue}", "ok", f"{waiting} waiting, served")
    stage = queue.split(".", maxsplit=1)[0]
    return Finding(
        f"queue {queue}",
        "error",
        f"{waiting} waiting, and no worker that is online can run them",
        f"start one with enough slots: `modelyard worker --stages {stage} --slots … --gpus …`",
    )


def check_disk(data_dir: Path) -> list[Finding]:
    """Whether there is room below the data directory."""
    place = next(folder for folder in (data_dir.resolve(), *data_dir.resolve().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    message = f"{free / 2**30:.1f} GiB free in {data_dir.resolve()}"
    if free < LOW_DISK_BYTES:
        return [Finding("disk", "warning", message, "delete what you no longer need, or move the data directory")]
    return [Finding("disk", "ok", message)]


def check_gpus() -> list[Finding]:
    """How many GPUs the driver lists; none is no fault."""
    from modelyard.cli.platform.groups import count_gpus

    count = count_gpus()
    return [Finding("gpus", "ok", f"{count} NVIDIA GPUs" if count else "none: jobs run on CPU slots")]


def check_http(name: str, url: str, fix: str) -> list[Finding]:
    """Whether a server answers its health check."""
    from modelyard.cli.platform.readiness import answers_http

    if answers_http(url):
        return [Finding(name, "ok", f"answers at {url}")]
    return [Finding(name, "error", f"no answer at {url}", fix)]

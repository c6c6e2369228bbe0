"""What looking costs with a million finished and a hundred thousand waiting jobs, beside the same with a thousand."""

import json
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from sqlmodel import col, select

from bench.crowds import make_crowd
from bench.measurement import Figures, Row, compare, say
from bench.servers import Server, make_database, running_api, running_broker
from bench.submit import BODY
from modelyard.domain.jobs.tables import Job
from modelyard.domain.jobs.tickets import TASK, write_letter
from modelyard.kit.broker import Broker
from modelyard.kit.database import Database
from modelyard.kit.settings import Settings
from modelyard.scheduler.loop import Chore, make_chores

LARGE, SMALL = (1_000_000, 100_000), (900, 100)
QUICK = (100_000, 10_000)
REPEATS = 15
"""Calls of one kind in one round; their median is the round's figure."""
TICKS = 3


@dataclass
class Yard:
    """A platform with a past."""

    server: Server
    deep: str
    """An id far down the list."""
    last: str
    """The waiting job that will be claimed last."""
    database: Database
    chores: list[Chore]

    def ask(self, path: str, body: object = None) -> Callable[[], None]:
        """A call to the API."""
        port = self.server.url.rsplit(":", 1)[1]
        headers = {"Authorization": f"Bearer {self.server.key}", "Content-Type": "application/json"}
        headers["Cookie"] = f"modelyard_key_{port}={self.server.key}"
        content = None if body is None else json.dumps(body).encode()

        def call() -> None:
            request = urllib.request.Request(self.server.url + path, content, headers)
            with urllib.request.urlopen(request, timeout=120) as answer:
                answer.read()

        return call

    def tick(self) -> None:
        """Everything the scheduler does once a second."""
        for chore in self.chores:
            if chore.every_seconds <= 10:
                chore.do()


def measure(rounds: int, quick: bool = False) -> list[Row]:
    """One row per operation: with many jobs, beside with few."""
    sizes = {"many": QUICK if quick else LARGE, "few": SMALL}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-lists-")))
        yards = {name: _open(stack, folder / name, *size) for name, size in sizes.items()}
        figures = {name: Figures() for name in yards}
        for number in range(rounds):
            for operation in _operations(yards["few"]):
                for name, taken in _take_turns({name: _operations(yard)[operation] for name, yard in yards.items()}).items():
                    figures[name].add({operation: taken})
            for name, taken in _take_turns({name: yard.tick for name, yard in yards.items()}, TICKS).items():
                figures[name].add({"one scheduler tick": taken})
            say(f"  round {number + 1}/{rounds} done")
    finished, waiting = sizes["many"]
    many = f"{finished:,} finished and {waiting:,} waiting jobs"
    rows = [
        compare(f"{operation} with {many}", operation, "ms", figures, "many", "few", "≤ 1.5× as slow", more_is_better=False)
        for operation in figures["many"].values
    ]
    return [Row(**{**row.__dict__, "peer_name": "Modelyard with 1,000 jobs"}) for row in rows]


def _open(stack: ExitStack, folder: Path, finished: int, waiting: int) -> Yard:
    folder.mkdir()
    started = time.perf_counter()
    database, key, project = make_database(folder)
    make_crowd(database, project, finished, waiting)
    say(f"  made {finished:,} finished and {waiting:,} waiting jobs in {time.perf_counter() - started:.0f} s")
    broker = stack.enter_context(running_broker())
    settings = Settings(_env_file=None, data_dir=folder, redis_url=broker)  # type: ignore[arg-type, call-arg]
    with database.read() as session:
        queued = session.exec(select(Job.queue, Job.id).where(Job.state == "queued").order_by(col(Job.order_key))).all()
        deep = session.exec(select(Job.id).order_by(col(Job.id)).offset(60).limit(1)).one()
    Broker(settings).send(TASK, [write_letter(queue, job_id, 0) for queue, job_id in queued])
    server = stack.enter_context(running_api(folder, broker, key))
    return Yard(server, deep, queued[-1][1], database, make_chores(settings, database))


def _operations(yard: Yard) -> dict[str, Callable[[], None]]:
    return {
        "list": yard.ask("/v1/jobs?limit=50"),
        "deep page": yard.ask(f"/v1/jobs?limit=50&after={yard.deep}"),
        "filter by state": yard.ask("/v1/jobs?limit=50&state=failed"),
        "filter by two states": yard.ask("/v1/jobs?limit=50&state=failed&state=cancelled"),
        "filter by a state nothing is in": yard.ask("/v1/jobs?limit=50&state=quarantined"),
        "filter by kind": yard.ask("/v1/jobs?limit=50&kind=prepare"),
        "filter by kind and state": yard.ask("/v1/jobs?limit=50&kind=prepare&state=succeeded"),
        "filter by kind and a state nothing is in": yard.ask("/v1/jobs?limit=50&kind=prepare&state=running"),
        "explain the last that waits": yard.ask(f"/v1/jobs/{yard.last}/explain"),
        "usage of 30 days by kind": yard.ask(f"/v1/usage?group_by=kind&since={_days_ago(30)}"),
        "the dashboard's first page": yard.ask("/"),
        "the dashboard's jobs": yard.ask("/jobs?state=failed"),
        "the dashboard's usage": yard.ask("/usage"),
        "get": yard.ask(f"/v1/jobs/{yard.deep}"),
        "submit": yard.ask("/v1/jobs", BODY),
        "queues": yard.ask("/v1/queues"),
    }


def _days_ago(days: int) -> str:
    """Midnight then, as `modelyard usage` asks."""
    return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT00:00:00Z")


def _take_turns(calls: Mapping[str, Callable[[], None]], repeats: int = REPEATS) -> dict[str, float]:
    """Median milliseconds of each; call by call in turn, so that whatever else the machine does meets all alike."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            taken[name].append(_seconds(call) * 1000)
    return {name: median(times[1:]) for name, times in taken.items()}


def _seconds(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started

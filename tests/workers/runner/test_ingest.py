"""Metric points on their way from the step to the database: whole, in order, exactly once, however many there are."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from factories import Factory
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, func, select

from modelyard.domain.jobs.recording import Batch, record
from modelyard.domain.jobs.tables import Attempt, Job, LogChunk, MetricPoint
from modelyard.domain.specs import parse_spec
from modelyard.kit.database import Database
from modelyard.workers.recipe import Run
from modelyard.workers.runner.reading import EVENT_CHUNK_BYTES, EventReader, LogReader
from modelyard.workers.runner.supervisor import Supervisor

JOBS = 8
# Reports one point after another until it is killed.
ENDLESS = """
import sys
from pathlib import Path
from modelyard.domain.specs import parse_spec
from modelyard.workers.recipe import Run
spec = parse_spec({"kind": "import", "name": "x", "source": {"package": "p", "file": "f"}})
run = Run(spec=spec, folder=Path(sys.argv[1]), inputs={})
for step in range(10**9):
    run.metrics(step, loss=1.0)
    if step == 1000:
        print("on its way", flush=True)
"""


def make_run(folder: Path) -> Run[Any]:
    """A run whose recipe is this test."""
    folder.mkdir(exist_ok=True)
    return Run(
        spec=parse_spec({"kind": "import", "name": "x", "source": {"package": "p", "file": "f"}}), folder=folder, inputs={}
    )


def carry(database: Database, job: Job, reader: EventReader) -> int:
    """Bring everything a recipe wrote to the database, as a supervisor does; return the size of the largest batch."""
    largest = 0
    while True:
        events, offset = reader.read()
        if not events:
            return largest
        with database.write() as session:
            record(session, job.id, job.attempt, Batch(events, offset), 0.0)
        reader.offset, largest = offset, max(largest, len(events))


def run_jobs(factory: Factory) -> list[Job]:
    """Jobs that run at once."""
    return [factory.running(spec={"name": f"job-{number}"}) for number in range(JOBS)]


def check_ingest(factory: Factory, folder: Path, points: int) -> None:
    """All points of all jobs arrive once and in order, in bounded batches, while they are still being reported."""
    jobs = run_jobs(factory)
    largest: list[int] = []

    def report_and_carry(job: Job) -> None:
        run, half = make_run(folder / job.id), points // 2
        for step in range(half):
            run.metrics(step, loss=float(step))
        reader = EventReader(run.folder / "events.jsonl")
        largest.append(carry(factory.database, job, reader))
        for step in range(half, points):
            run.metrics(step, loss=float(step))
        largest.append(carry(factory.database, job, reader))

    threads = [threading.Thread(target=report_and_carry, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job in jobs:
        query = select(MetricPoint.step).where(MetricPoint.job_id == job.id).order_by(MetricPoint.id)  # type: ignore[arg-type]
        assert factory.find(query) == list(range(points))
    assert max(largest) <= EVENT_CHUNK_BYTES / 50


class TestIngest:
    def test_eight_jobs_at_once(self, factory: Factory, tmp_path: Path) -> None:
        check_ingest(factory, tmp_path, 500)

    @pytest.mark.slow
    def test_a_hundred_thousand_points(self, factory: Factory, tmp_path: Path) -> None:
        check_ingest(factory, tmp_path, 12_500)

    def test_a_kill_leaves_whole_lines(self, tmp_path: Path) -> None:
        process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        content = (tmp_path / "events.jsonl").read_bytes()
        steps = [json.loads(line)["step"] for line in content.splitlines()]
        assert content.endswith(b"\n")
        assert len(steps) > 1000
        assert steps == list(range(len(steps)))

    def test_ranks_and_the_recipe_may_write_to_one_file(self, tmp_path: Path) -> None:
        runs = [make_run(tmp_path) for _ in range(4)]
        threads = [threading.Thread(target=lambda run=run: [run.metrics(step, loss=0.0) for step in range(200)]) for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        events, _ = EventReader(tmp_path / "events.jsonl").read()
        assert len(events) == 800
        assert {event["type"] for event in events} == {"metric"}

    def test_a_full_disk_is_an_error(self, tmp_path: Path) -> None:
        run = make_run(tmp_path)
        os.symlink("/dev/full", tmp_path / "events.jsonl")
        with pytest.raises(OSError, match="No space left"):
            run.metrics(1, loss=1.0)


class TestChunks:
    def test_a_long_file_comes_in_parts(self, tmp_path: Path) -> None:
        run = make_run(tmp_path)
        for step in range(20_000):
            run.metrics(step, loss=1.0)
        reader, parts, steps = EventReader(tmp_path / "events.jsonl"), 0, []
        while reader.offset < (tmp_path / "events.jsonl").stat().st_size:
            assert reader.is_behind() or parts > 0
            events, reader.offset = reader.read()
            steps += [event["step"] for event in events]
            parts += 1
        assert parts > 1
        assert steps == list(range(20_000))
        assert not reader.is_behind()

    def test_a_line_may_be_longer_than_a_chunk(self, tmp_path: Path) -> None:
        run = make_run(tmp_path)
        run.figures(text="x" * (2 * EVENT_CHUNK_BYTES))
        run.figures(done=True)
        reader = EventReader(tmp_path / "events.jsonl")
        (first, second), offset = reader.read()
        assert len(first["values"]["text"]) == 2 * EVENT_CHUNK_BYTES
        assert second["values"] == {"done": True}
        assert offset == (tmp_path / "events.jsonl").stat().st_size


class SilentDatabase(Database):
    """A database that goes away once, right after it has committed."""

    is_silent = True

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Commit, and do not say so the first time."""
        with super().write() as session:
            yield session
        if self.is_silent:
            self.is_silent = False
            raise OperationalError("COMMIT", {}, Exception("the connection is lost"))


class TestUnansweredCommit:
    def test_counts_once_although_more_was_written_meanwhile(self, factory: Factory, database_url: str, tmp_path: Path) -> None:
        job, run = factory.running(), make_run(tmp_path)
        database = SilentDatabase(database_url)
        (tmp_path / "rank-0.log").write_text("first\n")
        nothing: Any = None
        parts = dict.fromkeys(("settings", "store", "ranks", "lease", "keeper"), nothing)
        logs = [LogReader(tmp_path / "rank-0.log", 0)]
        reader = EventReader(tmp_path / "events.jsonl")
        supervisor = Supervisor(database=database, job=job, folder=tmp_path, events=reader, logs=logs, **parts)
        run.metrics(1, loss=1.0)
        with pytest.raises(OperationalError):
            supervisor._carry()
        run.metrics(2, loss=2.0)
        with (tmp_path / "rank-0.log").open("a") as log:
            log.write("second\n")
        supervisor._carry(is_last=True)
        assert factory.find(select(MetricPoint.step).order_by(MetricPoint.id)) == [1, 2]  # type: ignore[arg-type]
        assert factory.find(select(LogChunk.text).order_by(LogChunk.id)) == ["first\n", "second\n"]  # type: ignore[arg-type]
        size = (tmp_path / "events.jsonl").stat().st_size
        assert factory.find(select(Attempt.events_offset)) == [size]
        assert factory.find(select(func.count()).select_from(MetricPoint)) == [2]
        database.dispose()

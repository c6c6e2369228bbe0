"""Whom something is done to: attempts at work on this machine, and the workers they belong to."""

import random
from collections import Counter
from dataclasses import dataclass, field

import psutil
from sqlmodel import col, select

from modelyard.domain.jobs.retry import DEATHS
from modelyard.domain.jobs.tables import Attempt, Job
from modelyard.kit.database import Database, database_now
from modelyard.workers.engine.processes import split_tag, tag_of
from tests.chaos.cluster import WORKERS, Cluster, is_runner

REAPER_LOCK = "reaper.lock"
BOTH_SEEN_SECONDS = 4.0
"""So long after its start another attempt counts as at work: the ranks of the one before would have reported many times."""


@dataclass(frozen=True)
class Running:
    """An attempt at work on this machine."""

    tag: str
    processes: list[psutil.Process]
    """Its runner first, then its ranks."""

    @property
    def runner(self) -> psutil.Process:
        """Who owns the lease."""
        return self.processes[0]


@dataclass
class Victims:
    """Finds attempts nothing was done to so far: once is enough."""

    cluster: Cluster
    database: Database
    random: random.Random
    _hit: set[str] = field(default_factory=set)

    def list_running(self) -> list[tuple[str, int, bool]]:
        """Running attempts that may be lost: (job, number, whether it is in the middle of training).

        Not those of a job that just lost one: a job that loses three in a row is taken out of the line, as it should be.
        """
        with self.database.read() as session:
            query = select(Attempt, Job.kind).join(Job).order_by(col(Attempt.job_id), col(Attempt.seq))
            rows = session.exec(query).all()
        lost: Counter[str] = Counter()
        running = []
        for attempt, kind in rows:
            if attempt.saved_at is not None:
                lost[attempt.job_id] = 0
            if attempt.finished_at is None and not lost[attempt.job_id]:
                running.append((attempt.job_id, attempt.seq, kind == "pretrain" and attempt.first_step_at is not None))
            lost[attempt.job_id] += attempt.outcome in DEATHS and attempt.saved_at is None
        return running

    def pick_attempt(self, in_training: bool = False) -> Running | None:
        """One running attempt nothing was done to so far."""
        wanted = {
            tag_of(job_id, number) for job_id, number, trains in self.list_running() if trains or not in_training
        } - self._hit
        living = self.cluster.attempts() if wanted else {}
        tags = [tag for tag in sorted(living) if tag in wanted and is_runner(living[tag][0])]
        if not tags:
            return None
        chosen = self.random.choice(tags)
        self._hit.add(chosen)
        return Running(chosen, living[chosen])

    def pick_runner(self, in_training: bool = False) -> psutil.Process | None:
        picked = self.pick_attempt(in_training)
        return picked.runner if picked else None

    def pick_rank(self) -> psutil.Process | None:
        picked = self.pick_attempt()
        return next(iter(picked.processes[1:]), None) if picked else None

    def is_taken_over(self, tag: str) -> bool:
        """Whether a later attempt began the job of an attempt, long enough ago for both to be seen at work."""
        job_id, number, _ = split_tag(tag)
        later = (
            Attempt.job_id == job_id,
            col(Attempt.seq) > number,
            col(Attempt.started_at) < database_now() - BOTH_SEEN_SECONDS,
        )
        with self.database.read() as session:
            return session.exec(select(Attempt.id).where(*later)).first() is not None

    def find_worker(self, runner: psutil.Process) -> str | None:
        """The worker a runner was started by, if it still lives."""
        names = {self.cluster.processes[name].pid: name for name in WORKERS if name in self.cluster.processes}
        try:
            return next((names[parent.pid] for parent in runner.parents() if parent.pid in names), None)
        except psutil.Error:
            return None

    def find_reaper(self) -> str | None:
        """The worker that removes strays for all that share the data directory."""
        programs = {name: psutil.Process(process.pid) for name, process in self.cluster.processes.items() if name in WORKERS}
        return next((name for name, process in programs.items() if _has_open(process, REAPER_LOCK)), None)


def _has_open(process: psutil.Process, name: str) -> bool:
    try:
        return any(file.path.endswith(f"/{name}") for file in process.open_files())
    except psutil.Error:
        return False

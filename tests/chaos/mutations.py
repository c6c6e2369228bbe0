"""The platform with one of its safeguards taken out: the kill loop must notice, or it proves nothing."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.chaos.injections import MACHINE_REPLACED, RUNNER_REPLACED, TICKETS_LOST
from tests.chaos.loop import Plan
from tests.chaos.work import Load

REPOSITORY = Path(__file__).parents[2]
ROOMS = ("kit", "domain", "api", "workers", "scheduler", "cli")


@dataclass(frozen=True)
class Edit:
    """A piece of code that must be there exactly once, and what stands there instead."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutation:
    """A safeguard taken out, and what then goes wrong: parts of problems, one of which the loop must report."""

    edits: tuple[Edit, ...]
    symptoms: tuple[str, ...]
    provoked_by: str
    """The injection the safeguard is there for."""


OWNERSHIP = "domain/modelyard/domain/jobs/ownership.py"
FENCED = "where = (col(Job.id) == job_id, col(Job.attempt) == attempt, col(Job.state).in_(ACTIVE))\n    "
UNFENCED = "where = (col(Job.id) == job_id, col(Job.state).in_(ACTIVE))\n    "
RUNNER = "workers/modelyard/workers/runner"
RINGS = "in rings.items():\n            self._ring"
TWICE = "had begun"
"""Ranks of one attempt at work while the next one is."""
BACKWARDS = "numbered_without_gaps"
"""A stale attempt wrote its number over that of the newest one."""
MUTATIONS: dict[str, Mutation] = {
    "no fencing": Mutation(
        (
            Edit(OWNERSHIP, f"{FENCED}if _update", f"{UNFENCED}if _update"),
            Edit(OWNERSHIP, f"{FENCED}# An update", f"{UNFENCED}# An update"),
        ),
        (TWICE, BACKWARDS),
        MACHINE_REPLACED,
    ),
    "no deadline of the runner": Mutation(
        (
            Edit(f"{RUNNER}/deadline.py", "        whole = int(at_seconds)\n", "        return\n        whole = 0\n"),
            Edit(f"{RUNNER}/lease.py", "            if left <= 0:\n", "            if False:\n"),
        ),
        (TWICE,),
        RUNNER_REPLACED,
    ),
    "no relay": Mutation(
        (Edit("scheduler/modelyard/scheduler/relay.py", RINGS, RINGS.replace("rings.items()", "()")),),
        ("waiting_jobs_have_tickets",),
        TICKETS_LOST,
    ),
}


DIRECTED = Plan(
    seconds=40.0,
    pause_seconds=(0.5, 1.5),
    injections={each.provoked_by: 1 for each in MUTATIONS.values()},
    # Two workers may be frozen with one training: the third takes it over.
    programs=("api", "scheduler-1", "data-1", "train-1", "train-2", "train-3"),
    # One training, so that workers are idle, and longer than any machine needs; cheap jobs nearly always wait.
    load=Load(prepare_every_seconds=0.7, is_in_bursts=True, trainings_at_once=1, training_steps=1_000_000),
    calls_off=True,
    symptoms=tuple(dict.fromkeys(symptom for each in MUTATIONS.values() for symptom in each.symptoms)),
)
"""Everything the mutations are provoked by, one after another: the platform as it is must take it without a symptom."""
PATIENCE_SECONDS = 150.0
"""How long a mutation is provoked at most; most show within half a minute."""


ON_POSTGRESQL = "no fencing"
"""The mutation tried on PostgreSQL too: fencing is what depends on how a database locks and what it sees."""


def provoke(mutation: Mutation, rooms: Sequence[Path], database: str = "sqlite") -> Plan:
    """The same plan with what provokes one mutation alone, over as soon as it shows."""
    return replace(
        DIRECTED,
        seconds=PATIENCE_SECONDS,
        rooms=rooms,
        database=database,
        injections={mutation.provoked_by: 1},
        symptoms=mutation.symptoms,
        settle_seconds=30.0,
    )


class NoSuchCode(Exception):
    """The code a mutation changes is not there, or there more than once: it has moved on, and the mutation must follow."""


def copy_mutated(edits: Sequence[Edit], folder: Path) -> list[Path]:
    """Copy all rooms into a folder with some code changed; return the folders to put on PYTHONPATH. Raises `NoSuchCode`."""
    for room in ROOMS:
        shutil.copytree(REPOSITORY / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for edit in edits:
        path = folder / edit.file
        text = path.read_text()
        if text.count(edit.old) != 1:
            raise NoSuchCode(f"{edit.file} has {text.count(edit.old)} times: {edit.old!r}")
        path.write_text(text.replace(edit.old, edit.new))
    return [folder / room for room in ROOMS]

"""Sweeps whose trials are run by hand: real rows and the functions runners call, without processes and training."""

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

from factories import LEASE_SECONDS, Factory, spec_of
from sqlmodel import Session, col, select

from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import claim, finish
from modelyard.domain.jobs.recording import Batch, add_checkpoint, record
from modelyard.domain.jobs.repository import list_checkpoints
from modelyard.domain.jobs.tables import Job
from modelyard.domain.registry.repository import Made, register
from modelyard.domain.sweeps.bodies import SweepCreate
from modelyard.domain.sweeps.service import create_sweep
from modelyard.domain.sweeps.tables import Sweep, Trial
from modelyard.scheduler.sweeps import conduct_sweeps

STEPS = 40
RATE = "spec.optimizer.learning_rate"
BODY: dict[str, Any] = {
    "name": "search",
    "job": {"spec": spec_of("pretrain", steps=STEPS)},
    "parameters": {RATE: {"type": "float", "low": 1e-5, "high": 1.0, "log": True}},
    "sampler": "random",
    "trials": 4,
    "parallel": 2,
    "pruning": {"min_steps": 10, "reduction_factor": 2},
    "promote": "best",
}
Loss = Callable[[Mapping[str, Any], int], float]


def loss_of(spec: Mapping[str, Any], step: int) -> float:
    """A loss that falls with the steps, and is smallest at a learning rate of 0.01."""
    return abs(math.log10(spec["optimizer"]["learning_rate"]) + 2) + 10 / step


def make_sweep(factory: Factory, **changes: Any) -> Sweep:
    """A sweep over a dataset that is there."""
    factory.registered()
    with factory.database.write() as session:
        return create_sweep(session, factory.project_id, SweepCreate.model_validate({**BODY, **changes}))


def run_jobs(factory: Factory, loss: Loss = loss_of, most: int = 1000) -> int:
    """Run what waits, each to the step it pauses at or to its end; return how many ran."""
    for count in range(most):
        with factory.database.write() as session:
            queue = session.exec(select(Job.queue).where(Job.state == "queued").limit(1)).first()
            job = claim(session, queue, "train@host", ["cpu-0"], LEASE_SECONDS) if queue else None
        if job is None:
            return count
        with factory.database.write() as session:
            run_job(session, job, loss)
    return most


def run_job(session: Session, job: Job, loss: Loss) -> None:
    """Do the steps of one attempt, from the newest checkpoint on."""
    newest = next(iter(list_checkpoints(session, job.id)), None)
    first, last = newest.step if newest else 0, job.pause_at_step or job.spec["steps"]
    events = [{"type": "metric", "at": 1.0, "step": step, "values": {"loss": 1.0}} for step in range(first + 1, last + 1)]
    events.append({"type": "metric", "at": 1.0, "step": last, "values": {"validation_loss": loss(job.spec, last)}})
    record(session, job.id, job.attempt, Batch(events, 1), 1.0)
    add_checkpoint(session, job.id, job.attempt, last, f"c/{job.id}-{last}", {"sha256": "a" * 64, "bytes": 1}, {}, 1.0)
    if last < job.spec["steps"]:
        finish(session, job.id, job.attempt, Outcome.PAUSED)
        return
    digest = hashlib.sha256(job.id.encode()).hexdigest()
    made = register(session, job.project_id, Made("model", "bard", f"model/{job.id}", digest, 7), job.id, job.attempt)
    outputs = {"model": {"type": "model", "id": made.id, "name": made.name, "version": made.version}}
    finish(session, job.id, job.attempt, Outcome.SUCCEEDED, outputs=outputs)


def conduct_to_its_end(factory: Factory, sweep: Sweep, loss: Loss = loss_of) -> Sweep:
    """Let scheduler and trials take turns until nothing moves."""
    while True:
        conduct_sweeps(factory.database)
        if not run_jobs(factory, loss):
            ended: Sweep = factory.get(Sweep, sweep.id)
            return ended


def trials_of(factory: Factory, sweep: Sweep) -> list[Trial]:
    """All trials, by number."""
    return factory.find(select(Trial).where(Trial.sweep_id == sweep.id).order_by(col(Trial.number)))

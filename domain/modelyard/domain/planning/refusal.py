"""Refusing a training job that cannot work: a few look-ups by key, for kinds that train only."""

from collections.abc import Mapping
from typing import Any

from sqlmodel import Session

from modelyard.domain.errors import InvalidRequest
from modelyard.domain.jobs.queues import Shape
from modelyard.domain.planning.faults import Facts, count_weight_bytes, find_fault
from modelyard.domain.planning.shapes import count_parameters
from modelyard.domain.planning.translation import shape_of_new_model
from modelyard.domain.registry.tables import Dataset, Model
from modelyard.domain.specs import KINDS
from modelyard.domain.specs.base import JobSpec
from modelyard.domain.specs.finetuning import TuningSpec
from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.domain.workers.repository import list_workers

SMALL_BYTES = 2**30
"""Weights that fit on any machine one would train on: nobody asks the machines about these."""
Inputs = Mapping[str, Mapping[str, Any]]


def check_training(session: Session, spec: JobSpec, slots: Shape, inputs: Inputs, asks_machines: bool = True) -> None:
    """Raise `InvalidRequest` naming field, value and the way out, where a training job cannot work.

    `asks_machines`: whether one whose weights exceed the memory of every machine known is such a job.
    """
    if not isinstance(spec, PretrainSpec | TuningSpec):
        return
    fault = find_fault(spec, slots, _gather(session, spec, slots, inputs, asks_machines))
    if fault is not None:
        raise InvalidRequest(fault.message, field=fault.field, value=fault.value)


def _gather(session: Session, spec: PretrainSpec | TuningSpec, slots: Shape, inputs: Inputs, asks_machines: bool) -> Facts:
    dataset = session.get(Dataset, inputs["dataset"]["id"]) if "dataset" in inputs else None
    model, tokenizer = (_find_model(session, inputs, name) for name in ("model", "tokenizer"))
    parameters = _count_parameters(spec, model)
    is_small = parameters is None or count_weight_bytes(spec, slots, parameters) < SMALL_BYTES
    rooms = [] if is_small or not asks_machines else _list_rooms(session, spec, slots)
    known, base, owner = (thing.details if thing is not None else {} for thing in (dataset, model, tokenizer))
    return Facts(known, base, owner, parameters, rooms)


def _find_model(session: Session, inputs: Inputs, place: str) -> Model | None:
    return session.get(Model, inputs[place]["id"]) if place in inputs else None


def _count_parameters(spec: PretrainSpec | TuningSpec, model: Model | None) -> int | None:
    if model is not None:
        known = model.details.get("parameters")
        return known if isinstance(known, int) else None
    shape = shape_of_new_model(spec) if isinstance(spec, PretrainSpec) else None
    return count_parameters(shape) if shape is not None else None


def _list_rooms(session: Session, spec: PretrainSpec | TuningSpec, slots: Shape) -> list[int | None]:
    """Bytes a rank would have, in each way each worker of the stage could run the job, also one that is away for a while."""
    rooms: list[int | None] = []
    for worker in list_workers(session):
        if KINDS[spec.kind].stage not in worker.stages:
            continue
        share = None if worker.host_memory_bytes is None else worker.host_memory_bytes // slots.slots
        if slots.accelerator != "cpu" and _lends(worker.slots, "gpu", slots):
            rooms.append(share if spec.deepspeed.offload == "parameters" else worker.gpu_memory_bytes)
        if slots.accelerator != "gpu" and _lends(worker.slots, "cpu", slots):
            rooms.append(share)
    return rooms


def _lends(lent: Mapping[str, Any], accelerator: str, slots: Shape) -> bool:
    return int(lent.get(accelerator, {}).get("total", 0)) >= slots.slots

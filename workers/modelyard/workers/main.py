"""A worker process: Celery with threads, one thread per job, listening only to queues whose jobs fit."""

import socket
from pathlib import Path
from typing import Any

from celery import Celery, signals

from modelyard.domain.jobs.queues import queues_of_worker
from modelyard.domain.jobs.tickets import TASK
from modelyard.domain.specs.registry import STAGES
from modelyard.kit.database import Database
from modelyard.kit.logs import get_logger, set_up_logs
from modelyard.kit.queue import declare_queues, gate_queues, make_app
from modelyard.kit.settings import Settings, get_settings
from modelyard.kit.slots import SlotPool
from modelyard.workers.engine.attempts import Engine
from modelyard.workers.engine.capacity import Capacity
from modelyard.workers.engine.heartbeat import Heartbeat, describe_worker
from modelyard.workers.engine.nursery import Nursery
from modelyard.workers.engine.reaper import Reaper
from modelyard.workers.engine.seats import SeatTaker
from modelyard.workers.engine.sweeper import Sweeper
from modelyard.workers.engine.tickets import GangTickets
from modelyard.workers.tasks import register_tasks

log = get_logger(__name__)


class UnknownStage(ValueError):
    """A worker was asked to serve a stage there is not."""


def main(name: str, stages: list[str], slots: int, gpus: tuple[int, ...] = (), settings: Settings | None = None) -> int:
    """Run a worker until it is told to stop. Returns the exit code.

    `slots`: CPU slots this worker lends; `gpus`: indices of the GPUs it may lend, shared with other workers by lock files.
    """
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        raise UnknownStage(f"There is no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
    settings = settings or get_settings()
    set_up_logs(settings.log_level)
    host = socket.gethostname()
    engine = _make_engine(settings, f"{name}@{host}", SlotPool(_slot_folder(settings), name, slots, gpus))
    reaper = Reaper(settings, engine.database)
    reaper.look(is_sure=True)
    engine.nursery = Nursery(settings, stages, has_gpus=bool(gpus))
    engine.nursery.start()
    queues = queues_of_worker(stages, slots, len(gpus))
    heartbeat = Heartbeat(engine.database, engine.capacity, describe_worker(f"{name}@{host}", host, stages, queues, gpus))
    app = make_app(settings)
    declare_queues(app, queues)
    gangs = GangTickets(app, engine, stages)
    register_tasks(app, engine, gangs)
    _connect_signals(engine, heartbeat, SeatTaker(engine, gangs), reaper, Sweeper(settings, engine.database))
    gate_queues(app, lambda queue: gangs.wants(queue) or engine.capacity.listens_to(queue))
    try:
        return _run_celery(app, f"{name}@{host}", max(slots + len(gpus), 1))
    finally:
        engine.nursery.stop()


def _make_engine(settings: Settings, worker_id: str, pool: SlotPool) -> Engine:
    return Engine(settings, Database(settings.database), Capacity(pool), worker_id)


def _slot_folder(settings: Settings) -> Path:
    return settings.folder("slots")


def _connect_signals(engine: Engine, heartbeat: Heartbeat, seats: SeatTaker, reaper: Reaper, sweeper: Sweeper) -> None:
    def received(request: Any, **_: Any) -> None:
        if request.name == TASK:
            engine.capacity.receive(request.id)

    def ready(**_: Any) -> None:
        heartbeat.beat()
        heartbeat.start()
        seats.start()
        reaper.start()
        sweeper.start()
        log.info("worker ready", worker=engine.worker_id)

    def shutting_down(**_: Any) -> None:
        engine.drain()

    def shut_down(**_: Any) -> None:
        seats.stop(engine.settings.stop_grace_seconds)
        reaper.stop()
        sweeper.stop()
        heartbeat.stop()

    signals.task_received.connect(received, weak=False)
    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(shutting_down, weak=False)
    signals.worker_shutdown.connect(shut_down, weak=False)
    signals.setup_logging.connect(lambda **_: None, weak=False)  # ours is set up already


def _run_celery(app: Celery, hostname: str, concurrency: int) -> int:
    # Threads: the work is waiting for runner processes. Gossip and mingle would only add chatter between workers.
    worker = app.Worker(
        hostname=hostname,
        pool="threads",
        concurrency=concurrency,
        without_gossip=True,
        without_mingle=True,
        task_events=True,
        loglevel="INFO",
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)

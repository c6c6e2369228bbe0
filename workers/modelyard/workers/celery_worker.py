"""Celery with threads, one thread per job, listening only to queues whose jobs fit."""

import socket
from pathlib import Path
from typing import Any

from celery import Celery, signals

from modelyard.domain.jobs.queues import queues_of_worker
from modelyard.domain.jobs.tickets import TASK
from modelyard.kit.database import Database
from modelyard.kit.logs import get_logger
from modelyard.kit.queue import declare_queues, gate_queues, make_app
from modelyard.kit.settings import Settings
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


def run(name: str, stages: list[str], slots: int, gpus: tuple[int, ...], settings: Settings, nursery: Nursery) -> int:
    """Answer tickets until told to stop. Returns the exit code. Parameters: see `modelyard.workers.main`."""
    host = socket.gethostname()
    engine = _make_engine(settings, f"{name}@{host}", SlotPool(_slot_folder(settings), name, slots, gpus))
    reaper = Reaper(settings, engine.database)
    reaper.look(is_sure=True)
    engine.nursery = nursery
    queues = queues_of_worker(stages, slots, len(gpus))
    heartbeat = Heartbeat(engine.database, engine.capacity, describe_worker(f"{name}@{host}", host, stages, queues, gpus))
    app = make_app(settings)
    declare_queues(app, queues)
    gangs = GangTickets(app, engine, stages)
    register_tasks(app, engine, gangs)
    _connect_signals(engine, heartbeat, SeatTaker(engine, gangs), reaper, Sweeper(settings, engine.database))
    gate_queues(app, lambda queue: gangs.wants(queue) or engine.capacity.listens_to(queue))
    return _run_celery(app, f"{name}@{host}", max(slots + len(gpus), 1))


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

"""The same task for every task queue: write `start N`, work for a second, write `done N`.

Runs in the environment of the queues: python queues.py QUEUE enqueue NUMBER, python queues.py QUEUE worker, or
python queues.py QUEUE starts NUMBER, which sends one after another and prints how many milliseconds each took to begin.
Environment: BROKER (a Redis URL), LINES (the file), WORK_SECONDS, STAMP (any value: each line ends with the time).
"""

import json
import os
import sys
import time
from typing import Any

QUEUE, BROKER = sys.argv[1] if len(sys.argv) > 1 else "", os.environ["BROKER"]
RECOVERY_SECONDS = 15
"""After this a queue that can gives back what a dead worker held; its own default is minutes or an hour."""


def work(number: int) -> None:
    """The task."""
    write(f"start {number}")
    time.sleep(float(os.environ["WORK_SECONDS"]))
    write(f"done {number}")


def write(line: str) -> None:
    """Append a line in one write."""
    line = f"{line} {time.time()}" if "STAMP" in os.environ else line
    descriptor = os.open(os.environ["LINES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def time_starts(send: Any, number: int) -> list[float]:
    """Send one task after another; milliseconds from each call to the first line of the task."""
    taken = []
    for each in range(number):
        sent = time.time()
        send(each)
        taken.append(1000 * (wait_for_line(f"start {each} ") - sent))
        wait_for_line(f"done {each} ")
    return taken


def wait_for_line(beginning: str) -> float:
    """The time stamp of a line, once it is there."""
    while True:
        if os.path.exists(os.environ["LINES"]):
            with open(os.environ["LINES"]) as file:
                for line in file:
                    if line.startswith(beginning) and line.endswith("\n"):
                        return float(line.split()[-1])
        time.sleep(0.02)


def use_celery(is_late: bool) -> tuple[Any, Any]:
    """Celery as it comes, or with `acks_late` and what its documentation adds to it."""
    from celery import Celery

    app = Celery("peer", broker=BROKER)
    app.conf.task_ignore_result = True
    if is_late:
        app.conf.task_acks_late = True
        app.conf.task_reject_on_worker_lost = True
        app.conf.worker_prefetch_multiplier = 1
        app.conf.broker_transport_options = {"visibility_timeout": RECOVERY_SECONDS}
    task = app.task(name="work")(work)
    return task.delay, lambda: app.worker_main(["worker", "-c", "2", "--loglevel", "ERROR", "-n", f"{os.getpid()}@bench"])


def use_rq() -> tuple[Any, Any]:
    """RQ: a worker that forks for each job; one process more than the others have, as each does one job at a time."""
    from redis import Redis
    from rq import Queue, Worker

    connection = Redis.from_url(BROKER)
    queue = Queue(connection=connection)
    return lambda number: queue.enqueue("queues.work", number), lambda: Worker([queue], connection=connection).work()


def use_dramatiq() -> tuple[Any, Any]:
    """Dramatiq: acknowledges at the end; what a dead worker held comes back when its heartbeat is missed."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=BROKER, heartbeat_timeout=RECOVERY_SECONDS * 1000)
    dramatiq.set_broker(broker)
    actor = dramatiq.actor(work, actor_name="work")

    def run() -> None:
        worker = dramatiq.Worker(broker, worker_threads=2)
        worker.start()
        while True:
            time.sleep(1)

    return actor.send, run


def use_huey() -> tuple[Any, Any]:
    """Huey on Redis."""
    from huey import RedisHuey

    huey = RedisHuey("bench", url=BROKER, results=False)
    task = huey.task(name="work")(work)
    return task, lambda: huey.create_consumer(workers=2, worker_type="process").run()


USES = {
    "celery": lambda: use_celery(False),
    "celery acks_late": lambda: use_celery(True),
    "rq": use_rq,
    "dramatiq": use_dramatiq,
    "huey": use_huey,
}

if __name__ == "__main__":
    send, serve = USES[QUEUE]()
    if sys.argv[2] == "enqueue":
        for each in range(int(sys.argv[3])):
            send(each)
    elif sys.argv[2] == "starts":
        print(json.dumps(time_starts(send, int(sys.argv[3]))))
    else:
        serve()

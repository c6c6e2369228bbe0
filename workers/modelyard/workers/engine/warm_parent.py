"""A warm parent: imports once what runners and recipes import, then forks a runner for every order of its worker.

It runs no job's code and has one thread, so that a fork is safe; it knows no secret; it dies with its worker. The runners do
not: each is a session of its own. If the parent dies, the worker starts runners as programs until it has a new one.
"""

import argparse
import contextlib
import importlib
import os
import select
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from setproctitle import setproctitle

from modelyard.kit.garbage import without_collections
from modelyard.kit.settings import get_settings
from modelyard.workers.engine.handover import Handover
from modelyard.workers.engine.orders import (
    EXIT_NOT_FORKABLE,
    Born,
    Ended,
    Open,
    Order,
    Plan,
    Ready,
    read_papers,
    receive,
    resident_megabytes,
    send,
)
from modelyard.workers.engine.spare import Spare, fork_spare
from modelyard.workers.runner import main as runner
from modelyard.workers.runner.forking import die_with_parent, fork, send_output_to
from modelyard.workers.runner.ranks import wait_at_gates
from modelyard.workers.runner.rehearsal import rehearse
from modelyard.workers.runner.waiting import WaitingRank, fork_ranks

SPARE_AFTER_SECONDS = 0.5
"""Without an order for so long, a spare is forked again: not while the job just started wants the processor."""
OPENING_SECONDS = 0.05
"""A job that waited for the parent is forked before anything else is imported: its order comes so soon."""
CONNECTIONS = ("psycopg", "sqlalchemy.dialects.postgresql.psycopg")
"""What a runner imports when it connects to PostgreSQL."""


class NotForkable(RuntimeError):
    """This process cannot be forked safely."""


def main() -> int:
    """Import, then serve until the worker is gone."""
    parser = argparse.ArgumentParser(description="Fork runners (started by a worker).")
    parser.add_argument("--channel", type=int, required=True)
    given = parser.parse_args()
    die_with_parent()
    # The title is written over the arguments; they are found only as long as nobody has changed the environment.
    setproctitle(f"{__spec__.name if __spec__ else __name__} of process {os.getppid()}")
    channel = socket.socket(fileno=given.channel)
    channel.set_inheritable(False)
    received = receive(channel)
    if received is None:
        return 0
    plan, _ = received
    assert isinstance(plan, Plan)
    os.environ.update(plan.environment)
    later = [partial(importlib.import_module, module) for module in (*plan.later, *CONNECTIONS)]
    try:
        warm_up(*(partial(importlib.import_module, module) for module in plan.modules))
        WarmParent(channel, [*later, rehearse]).serve()
    except NotForkable as error:
        print(f"not warm: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the worker's log
        return EXIT_NOT_FORKABLE
    return 0


def warm_up(*steps: Callable[[], object]) -> None:
    """Do what children need not do again. Raises `NotForkable` if a step fails, or leaves a process no fork is safe of."""
    try:
        with without_collections():  # and nothing to collect: a child would copy every page it looks at
            for step in steps:
                step()
    except Exception as error:
        raise NotForkable(f"{type(error).__name__}: {error}") from error
    check_forkable()


def check_forkable() -> None:
    """Raise `NotForkable` if a fork of this process could hang or fail: a second thread, or a CUDA driver that is started."""
    threads = [Path(f"/proc/self/task/{each}/comm").read_text().strip() for each in os.listdir("/proc/self/task")]
    if len(threads) > 1:
        raise NotForkable(f"imports started threads ({', '.join(sorted(threads))}), whose locks would stay locked in a child")
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{descriptor}") == "/dev/nvidia-uvm":
                raise NotForkable("an import started CUDA, which no child could start again")


class WarmParent:
    """Answers orders, and tells how those it bore ended. `later`: what it does while there are none."""

    def __init__(self, channel: socket.socket, later: Sequence[Callable[[], object]]) -> None:
        self._channel, self._later = channel, deque(later)
        self._pause_seconds = OPENING_SECONDS
        self._children: dict[int, tuple[int, int]] = {}
        """Process descriptor -> pid and number of the order."""
        self._spare: Spare | None = None

    def serve(self) -> None:
        """Sleep until there is an order or an end. Returns when the worker is gone; raises `NotForkable`."""
        send(self._channel, Open())
        while True:
            poll = select.poll()
            for descriptor in (self._channel.fileno(), *self._children, *([self._spare.process] if self._spare else ())):
                poll.register(descriptor, select.POLLIN)
            ready = poll.poll(None if self._spare else 1000 * self._pause_seconds)
            if not ready:
                self._get_on()
            for descriptor, _ in ready:
                if descriptor in self._children:
                    self._bury(descriptor)
                elif self._spare is not None and descriptor == self._spare.process:
                    self._spare.dismiss()
                    self._spare, self._pause_seconds = None, SPARE_AFTER_SECONDS
                elif not self._answer():
                    return

    def _get_on(self) -> None:
        """Do the next step; after the last one, keep a spare."""
        if self._later:
            warm_up(self._later.popleft())
            self._pause_seconds = 0.0
            if not self._later:
                self._spare = self._fork_spare()
                send(self._channel, Ready(resident_megabytes()))
        else:
            self._spare = self._fork_spare()

    def _answer(self) -> bool:
        received = receive(self._channel)
        if received is None:
            return False
        self._pause_seconds = SPARE_AFTER_SECONDS
        order, descriptors = received
        assert isinstance(order, Order)
        pid = self._use_spare(order, descriptors) or fork(lambda: self._be_runner(order, descriptors))
        for descriptor in descriptors:
            os.close(descriptor)  # a slot is free when no process of the job lives, and this one is none
        child = os.pidfd_open(pid)
        self._children[child] = (pid, order.number)
        send(self._channel, Born(order.number, pid), (child,))
        return True

    def _use_spare(self, order: Order, descriptors: list[int]) -> int | None:
        spare = self._spare
        if spare is None or not order.ranks:
            return None
        self._spare = None
        return spare.pid if spare.take(order, tuple(descriptors)) else None

    def _fork_spare(self) -> Spare:
        return fork_spare(become_runner, self._own_descriptors())

    def _own_descriptors(self) -> tuple[int, ...]:
        """What no child has a use for."""
        return (self._channel.fileno(), *self._children, *(self._spare.descriptors() if self._spare else ()))

    def _bury(self, descriptor: int) -> None:
        pid, number = self._children.pop(descriptor)
        _, status = os.waitpid(pid, 0)
        os.close(descriptor)
        send(self._channel, Ended(number, os.waitstatus_to_exitcode(status)))

    def _be_runner(self, order: Order, descriptors: Sequence[int]) -> int:
        os.setsid()
        for descriptor in self._own_descriptors():
            os.close(descriptor)
        return become_runner(order, descriptors, ())


def become_runner(order: Order, descriptors: Sequence[int], waiting: Sequence[WaitingRank]) -> int:
    """Be the runner of an order from now on. `waiting`: ranks forked already. Returns the exit code."""
    papers, *slots = descriptors
    folder = Path(order.folder)
    folder.mkdir(parents=True, exist_ok=True)
    send_output_to(folder / "runner.log")
    alive = runner.hold(folder)
    # Before the secrets are read and before there are threads: ranks inherit neither.
    gates = [rank.gate.fileno() for rank in waiting]
    ranks = [*waiting, *fork_ranks(order.ranks - len(waiting), foreign=(*descriptors, alive, *gates))]
    given = read_papers(papers)
    os.environ.clear()
    os.environ.update(given.environment)
    os.environ["MODELYARD_SLOT_DESCRIPTORS"] = ",".join(map(str, slots))
    get_settings.cache_clear()
    setproctitle(f"{runner.__name__} --run-dir {folder} runner")
    handover = Handover.from_document(given.handover) if given.handover else None
    birth = runner.Birth(wait_at_gates(ranks), alive, handover)
    return runner.run(get_settings(), order.job_id, order.attempt, order.node_rank, birth)


if __name__ == "__main__":
    sys.exit(main())

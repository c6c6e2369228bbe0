"""A warm parent: imports once what runners and recipes import, then forks a runner for every order of its worker.

It runs no job's code and has one thread, so that a fork is safe; it knows no secret; it dies with its worker. The runners do
not: each is a session of its own. If the parent dies, the worker starts runners as programs until it has a new one.
"""

import argparse
import contextlib
import gc
import importlib
import os
import select
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from setproctitle import setproctitle

from modelyard.kit.settings import get_settings
from modelyard.workers.engine.handover import Handover
from modelyard.workers.engine.orders import (
    EXIT_NOT_FORKABLE,
    Born,
    Ended,
    Order,
    Ready,
    read_papers,
    receive,
    resident_megabytes,
    send,
)
from modelyard.workers.runner import main as runner
from modelyard.workers.runner.forking import die_with_parent, fork, send_output_to
from modelyard.workers.runner.ranks import wait_at_gates
from modelyard.workers.runner.rehearsal import rehearse
from modelyard.workers.runner.waiting import fork_ranks


class NotForkable(RuntimeError):
    """This process cannot be forked safely."""


def main() -> int:
    """Import, then serve until the worker is gone."""
    parser = argparse.ArgumentParser(description="Fork runners (started by a worker).")
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--modules", required=True)
    given = parser.parse_args()
    die_with_parent()
    # The title is written over the arguments; they are found only as long as nobody has changed the environment.
    setproctitle(f"{__spec__.name if __spec__ else __name__} of process {os.getppid()}")
    channel = socket.socket(fileno=given.channel)
    channel.set_inheritable(False)
    try:
        for module in filter(None, given.modules.split(",")):
            importlib.import_module(module)
        rehearse()
        check_forkable()
    except Exception as error:
        print(f"not warm: {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the worker's log
        return EXIT_NOT_FORKABLE
    gc.collect()
    gc.freeze()  # a collection in a child would otherwise copy every page it looks at
    WarmParent(channel).serve()
    return 0


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
    """Answers orders, and tells how those it bore ended."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._children: dict[int, tuple[int, int]] = {}
        """Process descriptor -> pid and number of the order."""

    def serve(self) -> None:
        """Sleep until there is an order or an end. Returns when the worker is gone."""
        send(self._channel, Ready(resident_megabytes()))
        while True:
            poll = select.poll()
            for descriptor in (self._channel.fileno(), *self._children):
                poll.register(descriptor, select.POLLIN)
            for descriptor, _ in poll.poll():
                if descriptor in self._children:
                    self._bury(descriptor)
                elif not self._answer():
                    return

    def _answer(self) -> bool:
        received = receive(self._channel)
        if received is None:
            return False
        order, descriptors = received
        assert isinstance(order, Order)
        pid = fork(lambda: self._become_runner(order, descriptors[0], descriptors[1:]))
        for descriptor in descriptors:
            os.close(descriptor)  # a slot is free when no process of the job lives, and this one is none
        child = os.pidfd_open(pid)
        self._children[child] = (pid, order.number)
        send(self._channel, Born(order.number, pid), (child,))
        return True

    def _bury(self, descriptor: int) -> None:
        pid, number = self._children.pop(descriptor)
        _, status = os.waitpid(pid, 0)
        os.close(descriptor)
        send(self._channel, Ended(number, os.waitstatus_to_exitcode(status)))

    def _become_runner(self, order: Order, papers: int, slots: Sequence[int]) -> int:
        os.setsid()
        self._channel.close()
        for descriptor in self._children:
            os.close(descriptor)
        folder = Path(order.folder)
        folder.mkdir(parents=True, exist_ok=True)
        send_output_to(folder / "runner.log")
        alive = runner.hold(folder)
        # Before the secrets are read and before there are threads: ranks inherit neither.
        waiting = fork_ranks(order.module, folder, order.ranks, foreign=(papers,))
        given = read_papers(papers)
        os.environ.clear()
        os.environ.update(given.environment)
        os.environ["MODELYARD_SLOT_DESCRIPTORS"] = ",".join(map(str, slots))
        get_settings.cache_clear()
        setproctitle(f"{runner.__name__} --run-dir {folder} runner")
        handover = Handover.from_document(given.handover) if given.handover else None
        birth = runner.Birth(wait_at_gates(waiting), alive, handover)
        return runner.run(get_settings(), order.job_id, order.attempt, order.node_rank, birth)


if __name__ == "__main__":
    sys.exit(main())

"""A runner forked ahead with its first rank: an order then waits for no fork, and for none of the page faults after one.

A warm parent keeps one. It is nobody's runner and dies with its parent until it is given an order.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Sequence

from setproctitle import setproctitle

from modelyard.workers.engine.orders import Order, receive, send
from modelyard.workers.runner.forking import die_with_parent, fork, outlive_parent
from modelyard.workers.runner.rehearsal import rehearse_start
from modelyard.workers.runner.waiting import WaitingRank, fork_ranks

ANSWER_SECONDS = 0.5
"""A spare that has not taken its order for so long is frozen; it takes less than a millisecond."""
Become = Callable[[Order, Sequence[int], Sequence[WaitingRank]], int]
"""Turns the spare into the runner of an order, given its descriptors and the ranks that wait. Returns the exit code."""


class Spare:
    """A forked process that waits for an order, as its parent sees it."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid, self._channel = pid, channel
        self.process = os.pidfd_open(pid)

    def descriptors(self) -> tuple[int, ...]:
        """What other children of the parent have to close."""
        return self.process, self._channel.fileno()

    def take(self, order: Order, descriptors: tuple[int, ...]) -> bool:
        """Give it an order. False if it is dead or does not answer; then it is killed before anybody else gets the order."""
        try:
            send(self._channel, order, descriptors)
            self._channel.settimeout(ANSWER_SECONDS)
            is_taken = bool(self._channel.recv(1))
        except OSError:
            is_taken = False
        if is_taken:
            self._let_go()
        else:
            self.dismiss()
        return is_taken

    def dismiss(self) -> None:
        """End it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._let_go()

    def _let_go(self) -> None:
        self._channel.close()
        os.close(self.process)


def fork_spare(become: Become, foreign: Sequence[int]) -> Spare:
    """Fork a process that waits for an order. `foreign`: descriptors of this process that are none of its."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent, closed = os.getpid(), (*foreign, ours.fileno())
    pid = fork(lambda: _wait_for_order(theirs, parent, closed, become))
    theirs.close()
    return Spare(pid, ours)


def _wait_for_order(channel: socket.socket, parent: int, closed: Sequence[int], become: Become) -> int:
    die_with_parent()
    os.setsid()
    for descriptor in closed:
        os.close(descriptor)
    setproctitle(f"{__name__} of process {parent}")
    waiting = fork_ranks(1, foreign=(channel.fileno(),))
    rehearse_start()
    if os.getppid() != parent or (received := receive(channel)) is None:
        return 0
    order, descriptors = received
    assert isinstance(order, Order)
    outlive_parent()
    channel.send(b"taken")
    channel.close()
    return become(order, descriptors, waiting)

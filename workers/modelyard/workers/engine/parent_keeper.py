"""One warm parent as its worker sees it: started, listened to, and started again when it dies."""

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import threading
import time

from modelyard.kit.logs import get_logger
from modelyard.workers.engine.orders import EXIT_NOT_FORKABLE, Born, Ended, Open, Order, Plan, Ready, receive, send
from modelyard.workers.engine.warm_runner import WarmRunner
from modelyard.workers.runner.rank_environment import without_secrets

PATIENCE_SECONDS = 3.0
"""A parent that has not forked for so long is frozen; a fork takes some 10 ms."""
BUSY_PATIENCE_SECONDS = 6.0
"""The same while it still imports: it answers between two modules."""
WARM_UP_SECONDS = 10.0
"""How long after its start a parent is waited for; the light one takes less than a second of a free processor."""
LONGEST_PAUSE_SECONDS = 60.0
QUIET_LIBRARIES = {
    # One thread, so that no pool is started whose threads a fork would lose; ranks set their own number.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    # torch.cuda.is_available() asks the driver's library without starting CUDA.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
log = get_logger(__name__)


class ParentKeeper(threading.Thread):
    """Starts one warm parent, listens to it, and starts it again when it dies.

    A thread for as long as the worker lives: the kernel kills the parent when the thread that started it ends.
    """

    def __init__(self) -> None:
        super().__init__(name="warm parent", daemon=True)
        self._plan: Plan | None = None
        self.is_open = threading.Event()
        """It forks what it is told to."""
        self.is_ready = threading.Event()
        """It has imported all it will."""
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._runners: dict[int, WarmRunner] = {}
        self._channel: socket.socket | None = None
        self._started_at = -WARM_UP_SECONDS
        self.process: subprocess.Popen[bytes] | None = None

    def tell(self, plan: Plan) -> None:
        """Say what the parent is for, at any time: it does not open before. Later ones are told the same."""
        with self._lock:
            self._plan = plan
            self._tell()

    def run(self) -> None:
        """Keep a parent until told to stop, or until it says that it cannot be one."""
        pause = 1.0
        while not self._is_over.is_set():
            started = time.monotonic()
            code = self._keep_one()
            if code == EXIT_NOT_FORKABLE:
                log.warning("no warm parent; runners are started as programs")
                break
            pause = 1.0 if time.monotonic() - started > LONGEST_PAUSE_SECONDS else min(2 * pause, LONGEST_PAUSE_SECONDS)
            if not self._is_over.is_set():
                log.warning("a warm parent died; starting another", exit_code=code, pause_seconds=pause)
            self._is_over.wait(pause)

    def stop(self) -> None:
        """End the parent; its runners live on."""
        self._is_over.set()
        self._kill()
        if self.is_alive():
            self.join(timeout=5)

    def wait(self) -> None:
        """Wait until the parent can fork, if it was started only a moment ago."""
        left = self._started_at + WARM_UP_SECONDS - time.monotonic()
        if left > 0:
            self.is_open.wait(left)

    def bear(self, order: Order, descriptors: tuple[int, ...]) -> WarmRunner | None:
        """Have a runner forked; None if there is no parent, or it does not answer."""
        runner = WarmRunner()
        with self._lock:
            if not self.is_open.is_set() or self._channel is None:
                return None
            patience = PATIENCE_SECONDS if self.is_ready.is_set() else BUSY_PATIENCE_SECONDS
            self._runners[order.number] = runner
            try:
                send(self._channel, order, descriptors)
            except OSError:
                self._runners.pop(order.number, None)
                return None
            if not runner.settled.wait(patience):
                log.warning("a warm parent does not answer; ending it", pid=self.process.pid if self.process else None)
                self._kill()  # so that it cannot fork after a runner was started otherwise
                runner.settled.wait(PATIENCE_SECONDS)
        return runner if runner.is_born() else None

    def next_number(self) -> int:
        """A number no order had."""
        return next(self._numbers)

    def _keep_one(self) -> int:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "modelyard.workers.engine.warm_parent"]
        command += ["--channel", str(theirs.fileno())]
        with ours:
            with theirs:
                self._started_at = time.monotonic()
                environment = {**without_secrets(os.environ), **QUIET_LIBRARIES}
                self.process = subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
                )
            with self._lock:
                self._channel = ours
                self._tell()
            if self._is_over.is_set():
                self._kill()
            self._listen(ours)
        self._forget()
        return self.process.wait()

    def _tell(self) -> None:
        if self._channel is not None and self._plan is not None:
            with contextlib.suppress(OSError):  # it died; whoever listens to it takes notice
                send(self._channel, self._plan)

    def _listen(self, channel: socket.socket) -> None:
        while (received := receive(channel)) is not None:
            message, descriptors = received
            if isinstance(message, Open):
                self.is_open.set()
            elif isinstance(message, Ready):
                log.info("warm parent ready", megabytes=message.megabytes)
                self.is_ready.set()
            elif isinstance(message, Born):
                self._runners[message.number].be_born(message.pid, descriptors[0])
            elif isinstance(message, Ended):
                self._runners.pop(message.number).end(message.exit_code)

    def _forget(self) -> None:
        """The parent is gone: nobody is born any more, and nobody will tell how its runners end."""
        self.is_open.clear()
        self.is_ready.clear()
        self._channel = None
        self._started_at = -WARM_UP_SECONDS  # nobody waits for the next one before it is there
        runners, self._runners = self._runners, {}
        for runner in runners.values():
            runner.end(None)

    def _kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()

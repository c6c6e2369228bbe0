"""The warm parents of a worker, as the worker sees them. Nothing depends on them but speed: without one, a runner is started
as a program.

There is a light one, with what every runner imports and no torch, and, where a stage needs torch, a heavy one.
"""

import contextlib
import itertools
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

from modelyard.domain.jobs.tables import Job
from modelyard.domain.specs.registry import KINDS
from modelyard.kit.logs import get_logger
from modelyard.kit.settings import Settings
from modelyard.kit.slots import HeldSlots
from modelyard.workers.engine.orders import EXIT_NOT_FORKABLE, Born, Ended, Order, Ready, receive, send, write_environment
from modelyard.workers.engine.processes import run_folder, runner_arguments, runner_environment, tag_of
from modelyard.workers.registry import HEAVY, ONLINE, RECIPES
from modelyard.workers.runner.rank_environment import library_settings, without_secrets

PATIENCE_SECONDS = 3.0
"""A parent that has not forked for so long is frozen; a fork takes some 10 ms."""
EXIT_UNKNOWN = 255
"""Of a runner whose parent died first: nobody can say how it ended."""
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


class WarmRunner:
    """A forked runner; what `subprocess.Popen` is for one that was started. Safe to share between threads."""

    def __init__(self) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self.settled = threading.Event()
        """It was born, or never will be."""
        self._ended = threading.Event()
        self._process: int | None = None
        self._lock = threading.Lock()

    def be_born(self, pid: int, process: int) -> None:
        """It exists; `process` is its pidfd, which no other process can come by, unlike its pid."""
        self.pid, self._process = pid, process
        self.settled.set()

    def is_born(self) -> bool:
        """Whether it ever existed."""
        return self._process is not None

    def end(self, exit_code: int | None) -> None:
        """Its parent tells how it ended; None: the parent is gone, and nobody will tell."""
        with self._lock:
            if exit_code is not None and self.returncode is None:
                self.returncode = exit_code
        self._ended.set()
        self.settled.set()

    def poll(self) -> int | None:
        """Exit code; None while it lives."""
        return self._look(0)

    def wait(self) -> int:
        """Wait for its end; return the exit code, or `EXIT_UNKNOWN`."""
        code = self._look(None)
        assert code is not None
        return code

    def terminate(self) -> None:
        """Send SIGTERM, if it lives."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._process is not None and self.returncode is None:
                signal.pidfd_send_signal(self._process, signal.SIGTERM)

    def _look(self, milliseconds: int | None) -> int | None:
        if self.returncode is None:
            assert self._process is not None
            poll = select.poll()
            poll.register(self._process, select.POLLIN)
            if not poll.poll(milliseconds):
                return None
            self._ended.wait(PATIENCE_SECONDS)
            with self._lock:
                self.returncode = EXIT_UNKNOWN if self.returncode is None else self.returncode
        return self.returncode

    def __del__(self) -> None:
        if self._process is not None:
            os.close(self._process)


class ParentKeeper(threading.Thread):
    """Starts one warm parent, listens to it, and starts it again when it dies.

    A thread for as long as the worker lives: the kernel kills the parent when the thread that started it ends.
    """

    def __init__(self, modules: tuple[str, ...], environment: dict[str, str]) -> None:
        super().__init__(name="warm parent", daemon=True)
        self._modules, self._environment = modules, environment
        self.is_ready = threading.Event()
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._runners: dict[int, WarmRunner] = {}
        self._channel: socket.socket | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Keep a parent until told to stop, or until it says that it cannot be one."""
        pause = 1.0
        while not self._is_over.is_set():
            started = time.monotonic()
            code = self._keep_one()
            if code == EXIT_NOT_FORKABLE:
                log.warning("no warm parent; runners are started as programs", modules=len(self._modules))
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

    def bear(self, order: Order, descriptors: tuple[int, ...]) -> WarmRunner | None:
        """Have a runner forked; None if there is no parent, or it does not answer."""
        runner = WarmRunner()
        with self._lock:
            if not self.is_ready.is_set() or self._channel is None:
                return None
            self._runners[order.number] = runner
            try:
                send(self._channel, order, descriptors)
            except OSError:
                self._runners.pop(order.number, None)
                return None
            if not runner.settled.wait(PATIENCE_SECONDS):
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
        command += ["--channel", str(theirs.fileno()), "--modules", ",".join(self._modules)]
        with ours:
            with theirs:
                self.process = subprocess.Popen(
                    command, env=self._environment, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
                )
            self._channel = ours
            if self._is_over.is_set():
                self._kill()
            self._listen(ours)
        self._forget()
        return self.process.wait()

    def _listen(self, channel: socket.socket) -> None:
        while (received := receive(channel)) is not None:
            message, descriptors = received
            if isinstance(message, Ready):
                log.info("warm parent ready", megabytes=message.megabytes, modules=len(self._modules))
                self.is_ready.set()
            elif isinstance(message, Born):
                self._runners[message.number].be_born(message.pid, descriptors[0])
            elif isinstance(message, Ended):
                self._runners.pop(message.number).end(message.exit_code)

    def _forget(self) -> None:
        """The parent is gone: nobody is born any more, and nobody will tell how its runners end."""
        self.is_ready.clear()
        self._channel = None
        runners, self._runners = self._runners, {}
        for runner in runners.values():
            runner.end(None)

    def _kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()


@dataclass(frozen=True)
class _Parents:
    light: ParentKeeper
    heavy: ParentKeeper | None
    accelerator: str
    """What the heavy one's libraries were told they would compute on."""


class Nursery:
    """Forks runners for a worker, if it can."""

    def __init__(self, settings: Settings, stages: list[str], has_gpus: bool) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._is_over = False
        kinds = [name for name, kind in KINDS.items() if kind.stage in stages]
        heavy = tuple(dict.fromkeys(module for kind in kinds for module in HEAVY.get(kind, ())))
        recipes = tuple(RECIPES[kind] for kind in kinds)
        accelerator = "gpu" if has_gpus else "cpu"
        environment = _environment(settings, accelerator)
        self._parents = _Parents(
            ParentKeeper(recipes, environment), ParentKeeper((*heavy, *recipes), environment) if heavy else None, accelerator
        )

    def start(self) -> None:
        """Begin to import what is wanted ahead of any job."""
        if self._settings.warm_parents != "never":
            self._parents.light.start()
        if self._settings.warm_parents == "always":
            self._start_heavy()

    def after(self, job: Job) -> None:
        """A job ended. The first that needed torch is a sign that more will come: import it for them."""
        if self._settings.warm_parents == "after_use" and job.kind in HEAVY:
            self._start_heavy()

    def _start_heavy(self) -> None:
        with self._lock:
            if self._parents.heavy is not None and self._parents.heavy.ident is None and not self._is_over:
                self._parents.heavy.start()

    def stop(self) -> None:
        """End the parents; runners live on."""
        with self._lock:
            self._is_over = True
        for parent in self.keepers():
            parent.stop()

    def keepers(self) -> list[ParentKeeper]:
        """Those that keep the parents, the warmest first."""
        return [parent for parent in (self._parents.heavy, self._parents.light) if parent is not None]

    def start_runner(self, job: Job, held: HeldSlots, node_rank: int = 0) -> WarmRunner | None:
        """Fork the runner of an attempt; None if no parent suits it now."""
        environment = write_environment(runner_environment(self._settings, tag_of(job.id, job.attempt, node_rank), held))
        try:
            for parent in self._suitable(job, held):
                runner = parent.bear(self._order(parent, job, held, node_rank), (environment, *held.descriptors))
                if runner is not None:
                    return runner
        finally:
            os.close(environment)
        return None

    def _suitable(self, job: Job, held: HeldSlots) -> list[ParentKeeper]:
        if job.kind in HEAVY and (held.accelerator == self._parents.accelerator) and job.kind not in ONLINE:
            return self.keepers()
        return [self._parents.light]

    def _order(self, parent: ParentKeeper, job: Job, held: HeldSlots, node_rank: int) -> Order:
        return Order(
            number=parent.next_number(),
            folder=str(run_folder(self._settings, job.id, job.attempt, node_rank)),
            arguments=runner_arguments(job.id, job.attempt, node_rank),
            module=RECIPES[job.kind],
            ranks=len(held.slots),
        )


def _environment(settings: Settings, accelerator: str) -> dict[str, str]:
    return {
        **without_secrets(os.environ),
        **library_settings(settings.folder("cache"), is_online=False),
        **QUIET_LIBRARIES,
        "DS_ACCELERATOR": "cuda" if accelerator == "gpu" else "cpu",
    }

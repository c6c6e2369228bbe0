"""A forked runner as its worker sees it: what `subprocess.Popen` is for one that was started as a program."""

import contextlib
import os
import select
import signal
import threading

EXIT_UNKNOWN = 255
"""Of a runner whose parent died first: nobody can say how it ended."""
TELL_SECONDS = 3.0
"""How long after a runner's end its parent may take to tell how it ended."""


class WarmRunner:
    """Waits for a runner, tells how it ended, and can ask it to leave. Safe to share between threads."""

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
            self._ended.wait(TELL_SECONDS)
            with self._lock:
                self.returncode = EXIT_UNKNOWN if self.returncode is None else self.returncode
        return self.returncode

    def __del__(self) -> None:
        if self._process is not None:
            os.close(self._process)

"""Wait for signals without missing any and without polling (the self-pipe trick, as in Python's `set_wakeup_fd`)."""

import select
import signal
import socket
from types import FrameType, TracebackType
from typing import Self

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Signals:
    """Turns signals into wake-ups of `wait`. Use as a context manager, in the main thread."""

    def __init__(self) -> None:
        self.stop_requests = 0
        """How often somebody asked us to stop; the second time means: at once."""
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in STOP_SIGNALS:
            # Started with nohup, a hang-up stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note_stop)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, *STOP_SIGNALS):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        self._reader.close()
        self._writer.close()

    def wait(self, timeout_seconds: float) -> None:
        """Return at the next signal (a child ended, somebody wants us to stop), or after the time-out."""
        readable, _, _ = select.select([self._reader], [], [], max(timeout_seconds, 0))
        if readable:
            self._reader.recv(4096)

    def _note_stop(self, number: int, frame: FrameType | None) -> None:
        self.stop_requests += 1

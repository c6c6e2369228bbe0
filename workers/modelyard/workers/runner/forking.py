"""Processes forked from this one: what `subprocess` is for programs, without the seconds their imports take."""

import atexit
import contextlib
import ctypes
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class ForkedProcess:
    """A child of this process; the part of `subprocess.Popen` a runner uses. Safe to share between threads."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Exit code, negative for a signal; None while it lives."""
        with self._lock:
            return self._look(os.WNOHANG)

    def wait(self) -> int:
        """Wait for its end; return the exit code."""
        with contextlib.suppress(ChildProcessError):
            # Not under the lock: another thread may want to know meanwhile that it lives. And without reaping, so that the
            # pid stays its own until `_look`.
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            code = self._look(0)
        assert code is not None
        return code

    def _look(self, options: int) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:  # whoever killed the tree has reaped it too
                self.returncode = -signal.SIGKILL
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


def fork(action: Callable[[], int]) -> int:
    """Run an action in a forked process, which ends with the code it returns. Returns the pid.

    Only for processes with one thread: a lock another thread held at the fork would stay locked in the child for ever.
    """
    pid = os.fork()
    if pid == 0:
        _leave_after(action)
    return pid


def _leave_after(action: Callable[[], int]) -> NoReturn:
    code = 1
    try:
        code = action()
    except SystemExit as end:
        code = _code_of(end)
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(code)


def _leave(code: int) -> NoReturn:
    """End as an interpreter does, but without taking a forked heap apart, which costs more than the fork did."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons, as at any exit
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _code_of(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr, flush=True)  # noqa: T201 - as the interpreter does with `sys.exit("why")`
    return 1


def die_with_parent() -> None:
    """Let the kernel kill this process as soon as the thread that started it ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def outlive_parent() -> None:
    """Take `die_with_parent` back."""
    _libc.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)


def send_output_to(log: Path) -> None:
    """Append standard output and error to a file, line by line, and read nothing."""
    sys.stdout.flush()
    sys.stderr.flush()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(output)
    os.close(nothing)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, write_through=True)  # type: ignore[union-attr]

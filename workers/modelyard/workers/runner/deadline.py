"""A deadline the kernel keeps: the process is killed when it passes, even one that is stopped and cannot act by itself.

A POSIX timer that sends SIGKILL. A forked child does not inherit it and `exec` removes it, so it ends this process only;
the ranks follow through PR_SET_PDEATHSIG. Linux only, as the runner's other means of leaving nothing behind are.
"""

import ctypes
import os
import signal
import sys
import time

CLOCK_BOOTTIME = 7
"""Goes on while the machine sleeps, and nobody can set it back."""
_SIGEV_SIGNAL = 0
_TIMER_ABSTIME = 1


class NoKernelDeadline(RuntimeError):
    """The kernel offers no timer that kills this process; without one a frozen runner could outlive its lease."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"This system has no kernel timer that ends a frozen runner ({why}); run workers on Linux, "
            "or in a container that passes timer_create on to a Linux kernel"
        )


class _Event(ctypes.Structure):
    """`struct sigevent`, 64 bytes."""

    _fields_ = (("value", ctypes.c_void_p), ("signal", ctypes.c_int), ("notify", ctypes.c_int), ("rest", ctypes.c_int * 12))


class _Time(ctypes.Structure):
    """`struct timespec`."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    """`struct itimerspec`."""

    _fields_ = (("interval", _Time), ("value", _Time))


class KernelDeadline:
    """Ends this process at a moment of `boot_time()`, unless the moment is moved on before. One per process is enough."""

    def __init__(self) -> None:
        self._library = _load()
        self._timer = ctypes.c_void_p()
        event = _Event(None, signal.SIGKILL, _SIGEV_SIGNAL)
        if self._library.timer_create(CLOCK_BOOTTIME, ctypes.byref(event), ctypes.byref(self._timer)) != 0:
            raise NoKernelDeadline(f"timer_create: {os.strerror(ctypes.get_errno())}")

    def move(self, at_seconds: float) -> None:
        """Kill this process at that moment of `boot_time()` instead; at once if it has passed."""
        whole = int(at_seconds)
        # All zero would disarm: the smallest moment there is has long passed.
        self._set(_Time(whole, max(int((at_seconds - whole) * 1e9), 1)))

    def disarm(self) -> None:
        """Let this process live."""
        self._set(_Time(0, 0))

    def _set(self, value: _Time) -> None:
        setting = _Setting(_Time(0, 0), value)
        if self._library.timer_settime(self._timer, _TIMER_ABSTIME, ctypes.byref(setting), None) != 0:
            raise NoKernelDeadline(f"timer_settime: {os.strerror(ctypes.get_errno())}")


def boot_time() -> float:
    """Seconds since this machine booted, sleep included."""
    return time.clock_gettime(CLOCK_BOOTTIME)


def _load() -> ctypes.CDLL:
    if sys.platform != "linux":
        raise NoKernelDeadline(f"the platform is {sys.platform}")
    for name in (None, "librt.so.1"):  # in the C library itself since glibc 2.34
        library = ctypes.CDLL(name, use_errno=True)
        if hasattr(library, "timer_create"):
            return library
    raise NoKernelDeadline("the C library has no timer_create")

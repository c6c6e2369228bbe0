"""Processes of their own that do the same thing at the same moment."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

SECONDS = 60.0


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    said: str
    """Its standard output after `ready`."""
    complained: str
    """Its standard error."""


def run_at_once(program: str, arguments: Sequence[Sequence[str]]) -> list[Ended]:
    """Start a program once for each list of arguments; give the word when all stand ready; wait until all have ended.

    Behind its imports the program prints `ready` and reads a line: that is the word to begin.
    """
    processes = [_start(program, each) for each in arguments]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=SECONDS) for process in processes]
    return [Ended(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def _start(program: str, arguments: Sequence[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

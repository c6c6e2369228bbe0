"""What a worker and its warm parent say to each other: one JSON document a packet, open files beside it."""

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LONGEST_BYTES = 64 * 1024
MOST_DESCRIPTORS = 250
"""The kernel passes 253 at once: more slots than one machine has."""
EXIT_NOT_FORKABLE = 69
"""A parent that cannot be one, EX_UNAVAILABLE of sysexits.h: trying again will not help."""


@dataclass(frozen=True)
class Order:
    """Fork a runner. With it come its papers, as a file, and the descriptors of its slots."""

    number: int
    """Tells the answers apart."""
    folder: str
    job_id: str
    attempt: int
    node_rank: int
    ranks: int


@dataclass(frozen=True)
class Born:
    """A runner was forked; with it comes a descriptor of the process."""

    number: int
    pid: int


@dataclass(frozen=True)
class Ended:
    """A runner ended."""

    number: int
    exit_code: int


@dataclass(frozen=True)
class Plan:
    """What a parent is for. It comes while the parent imports what any needs."""

    environment: dict[str, str]
    """Variables libraries read when they are imported."""
    modules: list[str]
    """Imported before anything is forked."""
    later: list[str]
    """Imported while there is no order; who is forked before that imports what it needs itself."""


@dataclass(frozen=True)
class Open:
    """It can fork, and goes on to import."""


@dataclass(frozen=True)
class Ready:
    """All imports are done."""

    megabytes: int


Message = Order | Born | Ended | Plan | Open | Ready
_TYPES: dict[str, type[Message]] = {type_.__name__: type_ for type_ in (Order, Born, Ended, Plan, Open, Ready)}


def send(channel: socket.socket, message: Message, descriptors: tuple[int, ...] = ()) -> None:
    """Send one message. Raises `OSError` when nobody is there to read it."""
    data = json.dumps({"type": type(message).__name__, **asdict(message)}).encode()
    socket.send_fds(channel, [data], descriptors, socket.MSG_NOSIGNAL)


def receive(channel: socket.socket) -> tuple[Message, list[int]] | None:
    """Wait for one message; None when the other side is gone."""
    try:
        data, descriptors, _, _ = socket.recv_fds(channel, LONGEST_BYTES, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return None
    if not data:
        return None
    fields: dict[str, Any] = json.loads(data)
    return _TYPES[fields.pop("type")](**fields), descriptors


@dataclass(frozen=True)
class Papers:
    """What is only for the runner's eyes, and may be long."""

    environment: dict[str, str]
    handover: dict[str, Any] | None = None
    """See `Handover.to_document`."""


def write_papers(papers: Papers) -> int:
    """Papers as a file in memory that only those it is passed to can read."""
    descriptor = os.memfd_create("papers", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(json.dumps(asdict(papers)).encode())
    return descriptor


def read_papers(descriptor: int) -> Papers:
    """Read papers and let go of them."""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        return Papers(**json.loads(file.read()))


def resident_megabytes() -> int:
    """Memory of this process that is in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20

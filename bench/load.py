"""A small HTTP load generator: so many connections, each sends its next request when the last one is answered.

Run in a process of its own: python bench/load.py HOST PORT CONNECTIONS SECONDS < request
prints one JSON line. The request is sent byte by byte as given, but for `@UNIQUE@`, which becomes a fresh word every time.
"""

import asyncio
import json
import resource
import sys
import time
from dataclasses import dataclass, field

UNIQUE = b"@UNIQUE@"


@dataclass
class Tally:
    """What all connections saw."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    broken: int = 0
    sent: int = 0


class Caller(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes, until: float, tally: Tally) -> None:
        self.request, self.until, self.tally = request, until, tally
        self.pieces = request.split(UNIQUE)
        self.done = asyncio.get_running_loop().create_future()
        self.buffer, self.needed, self.status = b"", 0, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.next()

    def next(self) -> None:
        """Send the next request, or hang up when the time is over."""
        self.started = time.perf_counter()
        if self.started >= self.until:
            self.transport.close()
            return
        self.tally.sent += 1
        self.transport.write((b"%016d" % (self.tally.sent * 1000 + id(self) % 1000)).join(self.pieces))

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer; when it is whole, go on."""
        self.buffer += data
        if not self.needed:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end].lower()
            self.status = int(head[9:12])
            at = head.index(b"content-length:") + 15
            self.needed = end + 4 + int(head[at:].split(b"\r\n", 1)[0])
        if len(self.buffer) >= self.needed:
            self.tally.seconds.append(time.perf_counter() - self.started)
            self.tally.statuses[self.status] = self.tally.statuses.get(self.status, 0) + 1
            self.buffer, self.needed = b"", 0
            self.next()

    def connection_lost(self, error: Exception | None) -> None:
        """The server hung up, or we did."""
        if time.perf_counter() < self.until:
            self.tally.broken += 1
        if not self.done.done():
            self.done.set_result(None)


async def call(host: str, port: int, connections: int, seconds: float, request: bytes) -> Tally:
    """Send for so long over so many connections."""
    tally, loop = Tally(), asyncio.get_running_loop()
    until = time.perf_counter() + seconds
    made = [await loop.create_connection(lambda: Caller(request, until, tally), host, port) for _ in range(connections)]
    await asyncio.gather(*(caller.done for _, caller in made))
    return tally


def main() -> None:
    """Read the request, send it again and again, print what came back."""
    host, port, connections, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    started = time.perf_counter()
    tally = asyncio.run(call(host, port, connections, seconds, sys.stdin.buffer.read()))
    took = time.perf_counter() - started
    ordered = sorted(tally.seconds) or [0.0]
    used = resource.getrusage(resource.RUSAGE_SELF)
    answer = {
        "requests": len(tally.seconds),
        "per_second": len(tally.seconds) / took,
        "p50_ms": 1000 * ordered[len(ordered) // 2],
        "p99_ms": 1000 * ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)],
        "statuses": tally.statuses,
        "broken": tally.broken,
        "cpu_seconds": used.ru_utime + used.ru_stime,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()

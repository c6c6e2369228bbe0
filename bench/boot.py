"""From the start of a server to its first 200, and what it costs while nobody asks for anything."""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from bench.measurement import Row, compare, interleave
from bench.peers.mlflow_server import running_mlflow
from bench.peers.prefect_server import running_prefect
from bench.servers import Server, make_database, running, running_api, running_broker, server_environment

SETTLE_SECONDS = 60.0
"""At most; a worker's warm parents and the peers' services go on importing after the first answer."""
CALM = 0.1
"""Share of a core below which all are taken to have started."""


def measure(rounds: int, idle_seconds: float, with_peers: bool = True) -> list[Row]:
    """All rows about booting and idling."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-boot-")))
        broker = stack.enter_context(running_broker())
        boots: dict[str, Callable[[], Mapping[str, float]]] = {"modelyard": lambda: _boot_ours(folder, broker)}
        idles: dict[str, Callable[[], Mapping[str, float]]] = {"modelyard": lambda: _idle_ours(folder, broker, idle_seconds)}
        if with_peers:
            boots["mlflow server"] = lambda: _boot(running_mlflow, folder)
            boots["prefect server"] = lambda: _boot(running_prefect, folder)
            idles["mlflow server"] = lambda: _idle(running_mlflow, folder, idle_seconds)
            idles["prefect server"] = lambda: _idle(running_prefect, folder, idle_seconds)
        boot = interleave(boots, rounds)
        idle = interleave(idles, 1)
    rows = [compare("boot of the API to the first 200", "seconds", "s", boot, "modelyard", target="≤ 1.5 s")]
    rows += [
        compare("… CPU", "cpu_seconds", "s", boot, "modelyard"),
        compare("idle: API + scheduler + worker, share of a core", "percent", "%", idle, "modelyard", target="< 2 %"),
        compare("idle: resident memory of the API", "api_mib", "MiB", idle, "modelyard"),
        compare("idle: resident memory of API + scheduler + worker", "mib", "MiB", idle, "modelyard"),
    ]
    for peer in list(boots)[1:]:
        rows += [
            compare("boot to the first 200", "seconds", "s", boot, "modelyard", peer, "≥ 7×", more_is_better=False),
            compare("idle: share of a core", "percent", "%", idle, "modelyard", peer, more_is_better=False),
            compare(
                "idle: resident memory of the server", "api_mib", "MiB", idle, "modelyard", peer, "≥ 3×", more_is_better=False
            ),
        ]
    return rows


def _fresh(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))


def _boot(start: Callable[[Path], object], folder: Path) -> dict[str, float]:
    with start(_fresh(folder)) as server:  # type: ignore[attr-defined]
        return {"seconds": server.ready_seconds, "cpu_seconds": server.cpu_seconds()}


def _boot_ours(folder: Path, broker: str) -> dict[str, float]:
    mine = _fresh(folder)
    database, key, _ = make_database(mine)
    database.dispose()
    with running_api(mine, broker, key) as server:
        return {"seconds": server.ready_seconds, "cpu_seconds": server.cpu_seconds()}


def _idle(start: Callable[[Path], object], folder: Path, seconds: float) -> dict[str, float]:
    with start(_fresh(folder)) as server:  # type: ignore[attr-defined]
        found = _watch([server], seconds)
        return {**found, "api_mib": found["mib"]}


def _idle_ours(folder: Path, broker: str, seconds: float) -> dict[str, float]:
    mine = _fresh(folder)
    database, key, _ = make_database(mine)
    database.dispose()
    environment = server_environment(mine, broker)
    modelyard = [sys.executable, "-m", "modelyard.cli"]
    worker = [*modelyard, "worker", "--stages", "prepare,pretrain,finetune", "--slots", "2", "--name", "idle"]
    with ExitStack() as stack:
        api = stack.enter_context(running_api(mine, broker, key))
        scheduler = stack.enter_context(running([*modelyard, "scheduler"], environment, mine))
        serving = stack.enter_context(running(worker, environment, mine))
        found = _watch([api, scheduler, serving], seconds)
        names = {"api": api, "scheduler": scheduler, "worker": serving}
        return {**found, **{f"{name}_mib": server.memory_mib() for name, server in names.items()}}


def _watch(servers: list[Server], seconds: float) -> dict[str, float]:
    _settle(servers)
    used, started = sum(server.cpu_seconds() for server in servers), time.perf_counter()
    time.sleep(seconds)
    used = sum(server.cpu_seconds() for server in servers) - used
    share = 100 * used / (time.perf_counter() - started)
    return {"percent": share, "mib": sum(server.memory_mib() for server in servers)}


def _settle(servers: list[Server]) -> None:
    until = time.monotonic() + SETTLE_SECONDS
    time.sleep(5.0)
    while time.monotonic() < until:
        used = sum(server.cpu_seconds() for server in servers)
        time.sleep(3.0)
        if sum(server.cpu_seconds() for server in servers) - used < 3.0 * CALM:
            return

"""How long other task queues take from a task's submission to its first line: one at a time, on a worker that waits."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.environments import python_of, version_of
from bench.peers.prefect_server import running_prefect
from bench.servers import running, running_broker

FOLDER = Path(__file__).parent
QUEUES = {"rq": "rq (fork)", "dramatiq": "dramatiq (threads)", "celery": "celery (prefork, queue only)"}
READY_SECONDS = 120.0


def subjects(tasks: int) -> dict[str, Callable[[], Mapping[str, float]]]:
    """Name of each peer -> what measures it once."""
    found: dict[str, Callable[[], Mapping[str, float]]] = {
        f"{label.partition(' ')[0]} {version_of('queues', name)} {label.partition(' ')[2]}": _measure_queue(name, tasks)
        for name, label in QUEUES.items()
    }
    found[f"prefect {version_of('prefect', 'prefect')} (served flow)"] = lambda: _start_prefect(max(tasks // 4, 2))
    return found


def _measure_queue(name: str, tasks: int) -> Callable[[], Mapping[str, float]]:
    return lambda: _start_queue(name, tasks)


def _start_queue(name: str, tasks: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="bench-starts-") as made, running_broker() as broker:
        folder = Path(made)
        command = [str(python_of("queues")), str(FOLDER / "queues.py"), name]
        environment = {**_environment(folder), "BROKER": broker}
        with running([*command, "worker"], environment, folder):
            return _ask([*command, "starts", str(tasks)], environment, folder)


def _start_prefect(tasks: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="bench-starts-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        command = [str(python_of("prefect")), str(FOLDER / "prefect_flow.py")]
        with running_prefect(folder) as server:
            environment = {**_environment(folder), "BROKER": "", "PREFECT_API_URL": f"{server.url}/api", "HOME": made}
            # Its default is to look every ten seconds.
            environment |= {"PREFECT_RUNNER_POLL_FREQUENCY": "1", "PREFECT_LOGGING_LEVEL": "INFO"}
            served = folder / "served"
            served.mkdir()
            with running([*command, "serve"], environment, served):
                _wait_for(served / "server.log", "being served")
                return _ask([*command, "starts", str(tasks)], environment, folder)


def _ask(command: Sequence[str], environment: dict[str, str], folder: Path) -> dict[str, float]:
    done = subprocess.run(command, env={**os.environ, **environment}, cwd=folder, check=True, capture_output=True, text=True)
    taken = sorted(json.loads(done.stdout.splitlines()[-1])[1:])  # the first also waits for the worker to be there
    return {"light": taken[len(taken) // 2]}


def _environment(folder: Path) -> dict[str, str]:
    return {"LINES": str(folder / "lines"), "WORK_SECONDS": "0", "STAMP": "1", "PYTHONPATH": str(FOLDER)}


def _wait_for(log: Path, text: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while text not in log.read_text():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{log} did not say {text!r} within {READY_SECONDS:g} s")
        time.sleep(0.1)

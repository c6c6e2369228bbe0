"""MLflow's tracking server on SQLite, as `mlflow server` starts it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.environments import python_of
from bench.servers import Server, free_port, running, wait_until_it_answers


@contextmanager
def running_mlflow(folder: Path) -> Iterator[Server]:
    """The server; ready once it answers."""
    import time

    port = free_port()
    store = f"sqlite:///{folder / 'mlflow.db'}"
    command = [str(python_of("mlflow")), "-m", "mlflow", "server", "--backend-store-uri", store, "--port", str(port)]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--workers", "1"]
    started = time.perf_counter()
    environment = {"PYTHONPATH": "", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GIT_PYTHON_REFRESH": "quiet"}
    with running(command, environment, folder) as server:
        server.url = f"http://127.0.0.1:{port}"
        wait_until_it_answers(f"{server.url}/health", server.process)
        server.ready_seconds = time.perf_counter() - started
        yield server

"""Logs metrics to an MLflow server. Runs in MLflow's environment: python mlflow_client.py URL; prints one JSON line."""

import json
import sys
import time

from mlflow import MlflowClient
from mlflow.entities import Metric

SINGLE = 60
BATCHES, BATCH = 5, 1000


def main(url: str) -> None:
    """Log points one by one, then a thousand a call."""
    client = MlflowClient(url)
    run = client.create_run("0").info.run_id
    client.log_metric(run, "loss", 1.0, step=0)
    started, used = time.perf_counter(), time.process_time()
    for step in range(SINGLE):
        client.log_metric(run, "loss", 1.0, step=step)
    single, single_cpu = time.perf_counter() - started, time.process_time() - used
    started = time.perf_counter()
    for batch in range(BATCHES):
        now = int(time.time() * 1000)
        client.log_batch(run, metrics=[Metric("loss", 1.0, now, batch * BATCH + step) for step in range(BATCH)])
    many = time.perf_counter() - started
    print(
        json.dumps(
            {
                "step_us": 1e6 * single / SINGLE,
                "step_cpu_us": 1e6 * single_cpu / SINGLE,
                "per_second": BATCHES * BATCH / many,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])

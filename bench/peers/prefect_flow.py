"""A flow that writes a line, on a Prefect server: served, or run again and again to see how long each takes to begin.

Runs in Prefect's environment: python prefect_flow.py serve, or python prefect_flow.py starts NUMBER.
Environment: PREFECT_API_URL, and that of `queues.py`.
"""

import json
import sys

from prefect import flow
from prefect.deployments import run_deployment
from queues import time_starts, work


@flow(name="work")
def begin(number: int) -> None:
    """The task of all the queues."""
    work(number)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        begin.serve(name="bench")
    else:
        taken = time_starts(
            lambda number: run_deployment("work/bench", parameters={"number": number}, timeout=0), int(sys.argv[2])
        )
        print(json.dumps(taken))

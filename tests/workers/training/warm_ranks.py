"""Forks ranks of training recipes for tests, as a worker's warm parent does: their libraries are imported once a session.

python -m tests.workers.training.warm_ranks: a line of JSON orders ranks, a line of JSON tells their exit codes.
"""

import importlib
import json
import sys
from pathlib import Path

from modelyard.workers.engine.warm_parent import check_forkable
from modelyard.workers.libraries import configure_libraries
from modelyard.workers.registry import HEAVY
from modelyard.workers.runner.waiting import fork_ranks


def main() -> None:
    """Serve orders until there are no more."""
    configure_libraries("cpu")
    for module in dict.fromkeys(HEAVY["pretrain"] + HEAVY["finetune"]):
        importlib.import_module(module)
    check_forkable()
    for line in sys.stdin:
        order = json.loads(line)
        waiting = fork_ranks(len(order["environments"]))
        for rank, environment in enumerate(order["environments"]):
            waiting[rank].go(order["module"], Path(order["folder"]), rank, environment, descriptors=())
        print(json.dumps([rank.process.wait() for rank in waiting]), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()

"""How every training begins, once its inputs are known to be there."""

from typing import Any

from modelyard.workers.libraries import configure_libraries
from modelyard.workers.recipe import Run
from modelyard.workers.run_manifest import record_manifest
from modelyard.workers.training.allocation import keep_freed_memory
from modelyard.workers.training.distributed import join_ranks
from modelyard.workers.training.reporters import report_elsewhere


def begin(run: Run[Any], *, is_deterministic: bool = False) -> None:
    """Set up libraries and ranks, and write down what the run is made of. All ranks call this together."""
    configure_libraries(run.device, is_deterministic=is_deterministic)
    keep_freed_memory()
    join_ranks(run)
    record_manifest(run)
    report_elsewhere(run)

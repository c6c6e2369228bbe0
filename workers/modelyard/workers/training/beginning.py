"""How every training begins, once its inputs are known to be there."""

from typing import Any

from modelyard.domain.errors import InvalidRequest
from modelyard.workers.libraries import configure_libraries
from modelyard.workers.recipe import BadData, Run
from modelyard.workers.run_manifest import record_manifest
from modelyard.workers.training.allocation import keep_freed_memory
from modelyard.workers.training.distributed import join_ranks
from modelyard.workers.training.reporters import report_elsewhere


def begin(run: Run[Any], *, is_deterministic: bool = False) -> None:
    """Set up libraries and ranks, and write down what the run is made of. All ranks call this together.

    Raises `BadData` for a batch these ranks cannot share evenly.
    """
    try:
        run.spec.check_ranks(run.world_size)
    except InvalidRequest as error:
        raise BadData(str(error)) from error
    configure_libraries(run.device, is_deterministic=is_deterministic)
    keep_freed_memory()
    join_ranks(run)
    record_manifest(run)
    report_elsewhere(run)

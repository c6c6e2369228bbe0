"""A worker process. Its warm parent is started before anything else is imported: the two import side by side what each needs."""

from typing import TYPE_CHECKING

from modelyard.workers.engine.parent_keeper import ParentKeeper

if TYPE_CHECKING:  # what takes time to import comes when the parent has been started
    from modelyard.kit.settings import Settings


class UnknownStage(ValueError):
    """A worker was asked to serve a stage there is not."""


def start_parent() -> ParentKeeper:
    """Start the light warm parent of the worker this process is about to be; if it ends instead, so does the parent."""
    light = ParentKeeper()
    light.start()
    return light


def main(
    name: str,
    stages: list[str],
    slots: int,
    gpus: tuple[int, ...] = (),
    light: ParentKeeper | None = None,
    settings: "Settings | None" = None,
) -> int:
    """Run a worker until it is told to stop. Returns the exit code.

    `slots`: CPU slots this worker lends; `gpus`: indices of the GPUs it may lend, shared with other workers by lock files;
    `light`: see `start_parent`.
    """
    from modelyard.domain.specs.registry import STAGES
    from modelyard.kit.garbage import without_collections
    from modelyard.kit.logs import set_up_logs
    from modelyard.kit.settings import get_settings
    from modelyard.workers.engine.nursery import Nursery

    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        raise UnknownStage(f"There is no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
    settings = settings or get_settings()
    set_up_logs(settings.log_level)
    nursery = Nursery(settings, stages, bool(gpus), light)
    nursery.start()
    try:
        with without_collections():
            from modelyard.workers import celery_worker
        return celery_worker.run(name, stages, slots, gpus, settings, nursery)
    finally:
        nursery.stop()

"""A worker process. Its warm parent is started first: the two then import side by side what each needs."""

from modelyard.domain.specs.registry import STAGES
from modelyard.kit.garbage import without_collections
from modelyard.kit.logs import set_up_logs
from modelyard.kit.settings import Settings, get_settings
from modelyard.workers.engine.nursery import Nursery


class UnknownStage(ValueError):
    """A worker was asked to serve a stage there is not."""


def main(name: str, stages: list[str], slots: int, gpus: tuple[int, ...] = (), settings: Settings | None = None) -> int:
    """Run a worker until it is told to stop. Returns the exit code.

    `slots`: CPU slots this worker lends; `gpus`: indices of the GPUs it may lend, shared with other workers by lock files.
    """
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        raise UnknownStage(f"There is no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
    settings = settings or get_settings()
    set_up_logs(settings.log_level)
    nursery = Nursery(settings, stages, has_gpus=bool(gpus))
    nursery.start()
    try:
        with without_collections():
            # Not at the top: SQLAlchemy and Celery take as long as the parent takes to be warm.
            from modelyard.workers import celery_worker
        return celery_worker.run(name, stages, slots, gpus, settings, nursery)
    finally:
        nursery.stop()

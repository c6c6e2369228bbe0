"""Which metrics measure the machine and which the model."""

MACHINE_SUFFIXES = ("per_second", "_seconds", "_bytes", "_share", "mfu", "_rank")


def is_of_machine(metric: str) -> bool:
    """Whether a metric says how fast or large the work was: that differs from run to run where nothing else does."""
    return metric.endswith(MACHINE_SUFFIXES)

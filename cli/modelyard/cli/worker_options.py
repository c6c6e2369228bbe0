"""Read what `modelyard worker` is given: stages and GPU lists."""

from modelyard.cli.errors import WrongUsage
from modelyard.domain.specs.registry import STAGES


def parse_stages(text: str) -> list[str]:
    """`finetune,pretrain` as a list. Raises `WrongUsage` for a stage there is not."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in STAGES]
    if unknown or not names:
        raise WrongUsage(f"--stages {text!r} names no stage of this platform: use some of {', '.join(STAGES)}")
    return names


def parse_gpus(text: str) -> tuple[int, ...]:
    """`0,2-4` as `(0, 2, 3, 4)`. Raises `WrongUsage`."""
    found: list[int] = []
    try:
        for part in filter(None, (part.strip() for part in text.split(","))):
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
    except ValueError:
        raise WrongUsage(f"--gpus {text!r} is no list of GPU numbers: write for instance 0,1 or 0-7") from None
    return tuple(dict.fromkeys(found))

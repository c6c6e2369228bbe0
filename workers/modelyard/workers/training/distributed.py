"""Join the ranks of a run, and the few things ranks must agree on."""

import logging
import os
import socket
from typing import Any

from modelyard.workers.recipe import Run


def join_ranks(run: Run[Any]) -> None:
    """Set up `torch.distributed` under DeepSpeed: gloo on CPU, nccl on GPU, the device given by LOCAL_RANK.

    The launcher sets RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; a recipe started by hand is one rank.
    """
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        os.environ.setdefault(name, value)
    if "MASTER_PORT" not in os.environ:
        os.environ["MASTER_PORT"] = str(_free_port())
    import deepspeed
    import deepspeed.ops
    import torch

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    if run.device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        # Only tensor-parallel inference uses the shared-memory operator, but DeepSpeed compiles it (about a minute)
        # whenever it is thought to be available.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="nccl" if run.device == "cuda" else "gloo", verbose=False)


def leave_ranks() -> None:
    """Wait for all ranks and close the group, so that no rank dies while another still talks to it."""
    import torch.distributed as group

    group.barrier()
    group.destroy_process_group()


def barrier() -> None:
    """Wait until every rank is here."""
    import torch.distributed as group

    group.barrier()


def is_first_on_machine() -> bool:
    """Whether this rank does what a machine needs once, such as writing files its ranks share."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def ranks_of_machine(run: Run[Any]) -> int:
    """How many ranks write into this run folder."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", str(run.world_size)))


def share(value: Any) -> Any:
    """Return rank 0's value on every rank."""
    import torch.distributed as group

    box = [value]
    group.broadcast_object_list(box, src=0)
    return box[0]


def sum_over_ranks(*values: float) -> list[float]:
    """Return the sums of the values over all ranks: one collective, however many values, and none for one rank."""
    import torch
    import torch.distributed as group

    if group.get_world_size() == 1:
        return list(values)
    totals = torch.tensor(values, dtype=torch.float64, device=device_of_rank())
    group.all_reduce(totals)
    return [float(total) for total in totals.tolist()]


def device_of_rank() -> str:
    """Return the torch device of this rank."""
    import torch.distributed as group

    return f"cuda:{os.environ['LOCAL_RANK']}" if group.get_backend() == "nccl" else "cpu"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

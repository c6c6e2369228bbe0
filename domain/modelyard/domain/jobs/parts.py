"""Checkpoints over several nodes: each node stores the files its own ranks wrote, under a key of its own."""


def checkpoint_key(job_id: str, attempt: int, step: int) -> str:
    """Where node 0's part of a checkpoint is kept: for a job on one worker, all of it."""
    return f"checkpoints/{job_id}/{attempt}-{step:08d}"


def part_keys(key: str, nodes: int) -> list[str]:
    """Where all parts of a checkpoint are kept, by node rank; `key`: the checkpoint's own."""
    return [key, *(f"{key}.node-{node_rank}" for node_rank in range(1, nodes))]

"""Copies of a training state in host memory, made in the pause between two steps. Importing this imports torch."""

import copy
from typing import Any

import torch


class Snapshots:
    """Copies states into buffers that are used again: fresh memory costs more than what is copied into it.

    A copy is valid until the next one of the same name is taken.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, int], torch.Tensor] = {}

    def take(self, name: str, state: Any) -> Any:
        """Return a copy of a state dict that no later step changes. Tensors that share memory share their copy.

        Copies from a GPU are under way when this returns, in order with the work queued there; see `wait_for_copies`.
        """
        return _Copying(self._buffers, name).copy_of(state)


class _Copying:
    def __init__(self, buffers: dict[tuple[str, int], torch.Tensor], name: str) -> None:
        self._buffers, self._name = buffers, name
        self._seen: dict[tuple[Any, ...], torch.Tensor] = {}

    def copy_of(self, state: Any) -> Any:
        if isinstance(state, torch.Tensor):
            return self._copy_of_tensor(state)
        if isinstance(state, dict):
            copied = copy.copy(state)  # its class, and what else it carries
            copied.update({key: self.copy_of(value) for key, value in state.items()})
            return copied
        if type(state) in {list, tuple}:
            return type(state)(self.copy_of(value) for value in state)
        return copy.deepcopy(state)

    def _copy_of_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.detach()
        place = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() == 0 or place not in self._seen:
            self._seen[place] = self._buffer(tensor).copy_(tensor, non_blocking=True)
        return self._seen[place]

    def _buffer(self, tensor: torch.Tensor) -> torch.Tensor:
        key = (self._name, len(self._seen))
        buffer = self._buffers.get(key)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[key] = buffer
        return buffer


def mark_copies() -> "torch.cuda.Event | None":
    """Mark the end of the copies under way on this rank's GPU, for `wait_for_copies` in another thread."""
    if not torch.cuda.is_initialized():
        return None
    event = torch.cuda.Event()
    event.record()
    return event


def wait_for_copies(event: "torch.cuda.Event | None") -> None:
    """Return once the copies are whole; does not hold up the thread that trains."""
    if event is not None:
        event.synchronize()

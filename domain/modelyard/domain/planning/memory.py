"""Memory of one rank of a training run, piece by piece. Pure.

The pieces add up: where one is gone when another comes (activations before the optimizer's step), the allocator still holds
what was freed. Constants marked `measured` come from runs of the recipes (see docs/planning.md); tests repeat three of them.
"""

from dataclasses import dataclass

from modelyard.domain.planning.activations import predict_activations, predict_logits
from modelyard.domain.planning.pieces import Piece, total_bytes
from modelyard.domain.planning.setups import Setup

STATE_BYTES = 4
"""Optimizer states, and the weights they update, are fp32 whatever the precision."""
STATES = {"adamw": 2, "sgd": 1, "muon": 1, "adafactor": 0}
"""Numbers an optimizer keeps per learning parameter; Adafactor's rows and columns are negligible."""
QUANTIZED_BYTES = 0.516
"""4-bit NormalFloat with doubly quantized scales: 4.127 bits (Dettmers et al. 2023, arXiv:2305.14314)."""
BASE_BYTES = {"pretrain": 440 * 2**20, "finetune": 680 * 2**20}
"""What a process holds once it has imported all it needs and before it has loaded anything (measured, Linux, CPU)."""
GPU_BASE_BYTES = 0
BUCKET_ELEMENTS = 500_000_000
"""DeepSpeed's default size of the buffers gradients and weights travel in."""


@dataclass(frozen=True)
class Memory:
    """What one rank takes."""

    pieces: tuple[Piece, ...]
    """In the memory of its accelerator; on a CPU that is the host's."""
    offloaded: tuple[Piece, ...] = ()
    """In the host's memory, of a rank that computes on a GPU."""

    @property
    def bytes(self) -> int:
        """In the memory of its accelerator."""
        return total_bytes(self.pieces)

    @property
    def offloaded_bytes(self) -> int:
        """In the host's memory, of a rank that computes on a GPU."""
        return total_bytes(self.offloaded)


def predict_memory(setup: Setup, kind: str) -> Memory:
    """The pieces of one rank, largest causes first."""
    base = Piece("libraries", BASE_BYTES[kind], "Python, torch, transformers and DeepSpeed as imported (measured)")
    weights, states = _weights(setup), _states(setup)
    on_device = [_gradients(setup), _buckets(setup), *predict_activations(setup), predict_logits(setup)]
    if setup.accelerator == "cpu":
        return Memory(tuple(piece for piece in (base, weights, states, *on_device) if piece.bytes))
    resident = [weights] if setup.offload != "parameters" else []
    resident += [states] if setup.offload == "none" else []
    away = [piece for piece in (weights, states) if piece not in resident]
    return Memory(tuple(piece for piece in (*resident, *on_device) if piece.bytes), (base, *away))


def _weights(setup: Setup) -> Piece:
    share = setup.ranks if setup.zero_stage == 3 else 1
    per = setup.element_bytes
    count = setup.parameters
    said = f"{count:,} parameters × {per} bytes ({setup.precision})"
    size = count * per / share
    if setup.adapter is not None:
        learning = setup.trainable_parameters
        quantized = setup.adapter.is_base_quantized
        size = count * (QUANTIZED_BYTES if quantized else per) / share + learning * per / share
        said = f"{count:,} frozen × {QUANTIZED_BYTES if quantized else per} bytes + {learning:,} of the adapter × {per} bytes"
    return Piece("weights", round(size), said + _say_shared(share))


def _gradients(setup: Setup) -> Piece:
    share = setup.ranks if setup.zero_stage >= 2 else 1
    count, per = setup.trainable_parameters, setup.element_bytes
    said = f"{count:,} learning parameters × {per} bytes ({setup.precision})"
    return Piece("gradients", round(count * per / share), said + _say_shared(share))


def _states(setup: Setup) -> Piece:
    share = setup.ranks if setup.zero_stage >= 1 else 1
    copies = STATES[setup.optimizer] + (setup.zero_stage > 0 or setup.precision != "fp32")
    count = setup.trainable_parameters
    said = f"{count:,} learning parameters × {copies} numbers × {STATE_BYTES} bytes ({setup.optimizer}"
    said += ", with the weights it updates)" if copies > STATES[setup.optimizer] else ")"
    return Piece("optimizer", round(count * copies * STATE_BYTES / share), said + _say_shared(share))


def _buckets(setup: Setup) -> Piece:
    count = min(setup.trainable_parameters, BUCKET_ELEMENTS)
    per = setup.element_bytes
    said = f"{count:,} gradients × {per} bytes: DeepSpeed copies them into one piece, at most {BUCKET_ELEMENTS:,} at a time"
    return Piece("gradient buckets", count * per, said)


def _say_shared(share: int) -> str:
    return f" ÷ {share} ranks" if share > 1 else ""

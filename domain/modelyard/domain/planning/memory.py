"""Memory of one rank of a training run, piece by piece. Pure.

The pieces add up: where one is gone when another comes (activations before the optimizer's step), the allocator still holds
what was freed. What is marked `measured` comes from runs of the recipes; tests repeat three of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.domain.planning.activations import predict_activations, predict_logits
from modelyard.domain.planning.generation import predict_cache, predict_choice
from modelyard.domain.planning.pieces import Moment, Piece, find_fullest, total_bytes
from modelyard.domain.planning.setups import Setup

STATE_BYTES = 4
"""Optimizer states, and the weights they update, are fp32 whatever the precision."""
STATES = {"adamw": 2, "sgd": 1, "muon": 1, "adafactor": 0}
"""Numbers an optimizer keeps per learning parameter; Adafactor's rows and columns are negligible."""
QUANTIZED_BYTES = 0.516
"""4-bit NormalFloat with doubly quantized scales: 4.127 bits (Dettmers et al. 2023, arXiv:2305.14314)."""
LIBRARIES_BYTES = {"pretrain": 440 * 2**20, "finetune": 480 * 2**20, "preference": 480 * 2**20, "grpo": 490 * 2**20}
"""What a process holds once it has imported all it needs and read a small dataset (measured, Linux, CPU)."""
EXCHANGE_BYTES = 20 * 2**20
"""What gloo and its threads take in each of several ranks on CPUs (measured)."""
EXCHANGED = {0: 0.0, 1: 0.7, 2: 2.4, 3: 4.3}
"""ZeRO stage -> copies of all gradients that are made on the way between ranks on CPUs and stay with the process (measured, two
ranks)."""
BUCKET_ELEMENTS = 500_000_000
"""DeepSpeed's default size of the buffer gradients travel in."""


@dataclass(frozen=True)
class Memory:
    """What one rank takes, when it takes most."""

    here: Moment
    """In the memory of its accelerator; on a CPU that is the host's."""
    host: Moment | None = None
    """In the host's memory, of a rank that computes on a GPU."""

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """What there is in the memory of its accelerator."""
        return self.here.pieces

    @property
    def offloaded(self) -> tuple[Piece, ...]:
        """What there is in the host's memory, of a rank that computes on a GPU."""
        return self.host.pieces if self.host else ()

    @property
    def bytes(self) -> int:
        """The most there is in the memory of its accelerator at a time."""
        return total_bytes(self.pieces)

    @property
    def offloaded_bytes(self) -> int:
        """The most there is in the host's memory at a time, of a rank that computes on a GPU."""
        return total_bytes(self.offloaded)


def predict_memory(setup: Setup, kind: str) -> Memory:
    """The fullest moment of one rank; pieces of nothing are left out."""
    libraries = Piece("libraries", LIBRARIES_BYTES[kind], "Python, torch, transformers and DeepSpeed as imported (measured)")
    built, sums, setup = _built(setup, kind), _sums(setup), setup.of_rank()
    weights, states = _weights(setup), _states(setup)
    passing = [
        _gradients(setup),
        _buckets(setup),
        _exchange(setup),
        sums,
        predict_activations(setup, kind),
        predict_logits(setup, kind == "pretrain"),
    ]
    answering = [predict_cache(setup), predict_choice(setup)]
    copy = _checkpoint_copy(setup, passing[-2:])
    merging = Moment("merging", (libraries, _merge(setup)))
    if setup.accelerator == "cpu":
        kept = (libraries, weights, states)
        moments = [Moment("learning", (*kept, *passing, copy)), Moment("answering", (*kept, *answering))]
        return Memory(find_fullest([*moments, merging]))
    away = {"none": (), "optimizer": (states,), "parameters": (weights, states)}[setup.offload]
    here = [piece for piece in (weights, states) if piece not in away]
    moments = [Moment("learning", (*here, *passing)), Moment("answering", (*here, *answering))]
    on_host = [Moment("learning", (libraries, *away, copy)), Moment("starting", (libraries, built)), merging]
    return Memory(find_fullest(moments), find_fullest(on_host))


def _built(setup: Setup, kind: str) -> Piece:
    """The model as it is made or read, before it goes to a GPU. Pre-training does so in fp32, and whole on each rank.

    On a CPU all gradients, which are as large, come later.
    """
    per, count = STATE_BYTES if kind == "pretrain" else setup.element_bytes, setup.parameters
    share = setup.ranks if setup.zero_stage == 3 and kind != "pretrain" else 1
    said = f"{count:,} parameters × {per} bytes as they are {'made' if kind == 'pretrain' else 'read'}"
    return Piece("weights at the start", count * per // share, said + _say_shared(share))


def _weights(setup: Setup) -> Piece:
    share, per, count = setup.ranks if setup.zero_stage == 3 else 1, setup.element_bytes, setup.parameters
    if setup.adapter is None:
        return Piece(
            "weights", count * per // share, f"{count:,} parameters × {per} bytes ({setup.precision})" + _say_shared(share)
        )
    each = QUANTIZED_BYTES if setup.adapter.is_base_quantized else per
    learning = setup.trainable_parameters
    said = f"{count:,} frozen parameters × {each} bytes + {learning:,} of the adapter × {per} bytes" + _say_shared(share)
    return Piece("weights", round((count * each + learning * per) / share), said)


def _states(setup: Setup) -> Piece:
    share = setup.ranks if setup.zero_stage >= 1 else 1
    has_copy = setup.zero_stage > 0 or setup.precision != "fp32"
    numbers, count = STATES[setup.optimizer] + has_copy, setup.trainable_parameters
    said = f"{count:,} learning parameters × {numbers} numbers × {STATE_BYTES} bytes ({setup.optimizer}"
    said += " and the weights it updates)" if has_copy else ")"
    return Piece("optimizer", count * numbers * STATE_BYTES // share, said + _say_shared(share))


def _gradients(setup: Setup) -> Piece:
    count, per = setup.trainable_parameters, setup.element_bytes
    said = f"{count:,} learning parameters × {per} bytes ({setup.precision})"
    if setup.zero_stage == 0:
        return Piece("gradients", count * per, said)
    own = count * per // setup.ranks
    return Piece("gradients", count * per + own, f"{said}, and the rank's share of the sum{_say_shared(setup.ranks)}")


def _buckets(setup: Setup) -> Piece:
    """Gradients on their way to other ranks. A rank alone, without ZeRO, sends none."""
    count, per = min(setup.trainable_parameters, BUCKET_ELEMENTS), setup.element_bytes
    if setup.zero_stage == 0:
        sent = count * per if setup.ranks > 1 else 0
        return Piece("gradient buckets", sent, f"{count:,} gradients × {per} bytes in one piece, to be added up")
    own = setup.trainable_parameters * STATE_BYTES // setup.ranks
    said = f"{count:,} gradients × {per} bytes in one piece, and the rank's share in fp32 while the optimizer works"
    return Piece("gradient buckets", count * per + own, said)


def _sums(setup: Setup) -> Piece:
    """What ranks on CPUs that share matrices make of the two sums per layer."""
    if setup.tensor_parallel_size == 1 or setup.accelerator == "gpu":
        return Piece("sums", 0, "")
    tokens, layers, size = setup.tokens_per_pass, setup.shape.layers, setup.shape.hidden_size
    said = (
        f"{tokens:,} tokens × {layers} layers × 2 × {size:,} × {setup.element_bytes} bytes, and gloo and its threads (measured)"
    )
    return Piece("sums", 2 * tokens * layers * size * setup.element_bytes + EXCHANGE_BYTES, said)


def _exchange(setup: Setup) -> Piece:
    """What ranks on CPUs copy to talk to each other; GPUs read each other's memory."""
    if setup.ranks == 1 or setup.accelerator == "gpu":
        return Piece("exchange", 0, "")
    copies, sent = EXCHANGED[setup.zero_stage], setup.trainable_parameters * setup.element_bytes
    said = f"{EXCHANGE_BYTES // 2**20} MiB of gloo and its threads, and {copies} copies of the gradients (measured)"
    return Piece("exchange", EXCHANGE_BYTES + round(copies * sent), said)


def _checkpoint_copy(setup: Setup, freed: Sequence[Piece]) -> Piece:
    """What a checkpoint holds is copied between two steps, and written from the copy while training goes on.

    Of a single one at the end the copy takes the place of activations, which are gone by then; but for what is kept of the
    first state. Without ZeRO the optimizer has none then; under it that goes where the weights were before DeepSpeed laid them
    end to end, by way of another copy (measured).
    """
    share = setup.ranks if setup.zero_stage >= 1 else 1
    numbers = STATES[setup.optimizer] + (setup.zero_stage > 0 or setup.precision != "fp32")
    count, per = setup.trainable_parameters, setup.element_bytes
    size = count * per + count * numbers * STATE_BYTES // share
    kept = f"{per} bytes of weights + {numbers * STATE_BYTES} of optimizer states{_say_shared(share)}"
    said = f"{count:,} learning parameters × ({kept})"
    if setup.accelerator == "cpu" and not setup.saves_between_steps:
        first = count * per if setup.zero_stage == 0 else size - 2 * count * per
        least = max(first, 0) if setup.keeps_first_state else 0
        return Piece("checkpoint copy", max(size - total_bytes(freed), least), f"{said}, less what activations took")
    return Piece("checkpoint copy", size, said)


def _merge(setup: Setup) -> Piece:
    """The adapter is merged, and the merge is checked, in twice the precision, beside the weights as they are stored."""
    if setup.adapter is None:
        return Piece("merge", 0, "")
    each = 3 * setup.element_bytes
    said = f"{setup.parameters:,} parameters × {each} bytes: stored, and in twice the precision to check the merge"
    return Piece("merge", setup.parameters * each, said)


def _say_shared(share: int) -> str:
    return f" ÷ {share} ranks" if share > 1 else ""

"""Operations by formula against those torch counts, and what ranks tell of each other."""

import math
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from modelyard.workers.training.flops import Work, count_cost, find_peak
from modelyard.workers.training.waiting import WaitClock
from modelyard.workers.training.watching import Fare, compare_ranks

LENGTH, ROWS = 32, 2
SIZE: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 300, "attn_implementation": "eager",
}  # fmt: skip


def count_by_torch(model: Any) -> int:
    """Operations of matrix products in one forward and backward pass."""
    tokens = torch.arange(ROWS * LENGTH).reshape(ROWS, LENGTH) % 300
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens, labels=tokens).loss.backward()
    return counter.get_total_flops()


class TestCountCost:
    @pytest.mark.parametrize("is_tied", [False, True])
    def test_agrees_with_what_torch_counts(self, is_tied: bool) -> None:
        model = LlamaForCausalLM(LlamaConfig(**SIZE, tie_word_embeddings=is_tied))
        cost = count_cost(model)
        assert cost is not None
        tokens = ROWS * LENGTH
        # Plain attention computes all pairs and hides half of them: twice what a causal kernel needs.
        expected = cost.of(Work(tokens, tokens, span=2 * LENGTH))
        assert expected == pytest.approx(count_by_torch(model), rel=0.01)

    def test_what_is_only_read_costs_the_forward_pass(self) -> None:
        model = LlamaForCausalLM(LlamaConfig(**SIZE))
        cost = count_cost(model)
        assert cost is not None
        tokens = torch.arange(ROWS * LENGTH).reshape(ROWS, LENGTH) % 300
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(input_ids=tokens)
        expected = cost.of(Work(0, 0, span=2 * LENGTH, read_tokens=ROWS * LENGTH, read_predictions=ROWS * LENGTH))
        assert expected == pytest.approx(counter.get_total_flops(), rel=0.01)

    def test_frozen_weights_cost_a_third_less(self) -> None:
        model = LlamaForCausalLM(LlamaConfig(**SIZE))
        learning = count_cost(model)
        model.requires_grad_(False)
        frozen = count_cost(model)
        assert learning is not None
        assert frozen is not None
        assert frozen.per_token == pytest.approx(learning.per_token * 4 / 6)

    def test_the_head_counts_where_it_works(self) -> None:
        cost = count_cost(LlamaForCausalLM(LlamaConfig(**SIZE)))
        assert cost is not None
        assert cost.of(Work(100, 10, 0)) == 100 * cost.per_token + 10 * 6 * 300 * 64

    def test_no_figure_for_experts_of_which_few_work(self) -> None:
        model = LlamaForCausalLM(LlamaConfig(**SIZE))
        model.config.num_experts = 8
        assert count_cost(model) is None


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("Tesla V100-SXM2-16GB", None),
    ],
)
def test_peaks_by_name(name: str, peak: float | None) -> None:
    assert find_peak(name) == peak


class TestCompareRanks:
    def test_one_rank_has_none_to_be_compared_with(self) -> None:
        assert compare_ranks([Fare(0.5, 8e9, 0.25)]) == {"peak_memory_bytes": 8e9, "data_wait_share": 0.25}

    def test_the_slowest_of_three_is_named(self) -> None:
        found = compare_ranks([Fare(0.5, 8e9, 0.0), Fare(0.9, 7e9, 0.5), Fare(0.6, 9e9, 0.1)])
        assert found == {
            "peak_memory_bytes": 9e9,
            "smallest_peak_memory_bytes": 7e9,
            "data_wait_share": 0.5,
            "slowest_rank": 1.0,
            "slowest_forward_seconds": 0.9,
            "fastest_forward_seconds": 0.5,
        }

    def test_no_share_where_a_rank_did_not_measure(self) -> None:
        assert "data_wait_share" not in compare_ranks([Fare(0.5, 8e9, math.nan), Fare(0.5, 8e9, 0.1)])


def test_the_clock_counts_the_getting_and_not_the_use(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("modelyard.workers.training.waiting.time.perf_counter", lambda: now[0])

    def batches() -> Any:
        for number in range(3):
            now[0] += 1.0
            yield number

    clock = WaitClock()
    for _ in clock.watch(batches()):
        now[0] += 10.0
    assert clock.seconds == 3.0

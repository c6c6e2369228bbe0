"""Documents packed into one sequence are learned as if each were alone: the same positions, attention and losses."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from modelyard.domain.specs.architectures import CAUSAL_MODEL_TYPES, PLAIN_MODEL_TYPES
from modelyard.workers.recipe import BadData
from modelyard.workers.training import cross_entropy
from modelyard.workers.training.batches import Order
from modelyard.workers.training.cross_entropy import IGNORED, mean_cross_entropy
from modelyard.workers.training.documents import ATTENTION, choose_attention
from modelyard.workers.training.packed_rows import pack
from modelyard.workers.training.token_store import TokenStore
from modelyard.workers.training.token_writer import write_tokens
from modelyard.workers.training.trained_model import OWN_LOGITS, Batch, TrainedModel
from modelyard.workers.training.validation import check_documents_apart

TEXTS = ["The garden is blue.", "A castle, and the letter of winter.", "river", "What can you tell me about the harbour?"] * 3
SIZES = {
    "vocab_size": 400, "hidden_size": 32, "n_embd": 32, "intermediate_size": 48, "n_inner": 48, "num_hidden_layers": 2,
    "n_layer": 2,
    "num_attention_heads": 2, "n_head": 2, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256,
    "n_positions": 256, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "num_experts": 4, "num_local_experts": 4,
    "num_experts_per_tok": 2, "moe_intermediate_size": 32, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16, "v_head_dim": 16, "rotary_dim": 8,
}  # fmt: skip


@pytest.fixture
def store(tiny_model: Path, tmp_path: Path) -> TokenStore:
    """Twelve documents, in sequences of 48 tokens."""
    from transformers import AutoTokenizer

    write_tokens(tmp_path / "train", TEXTS, AutoTokenizer.from_pretrained(tiny_model))
    return TokenStore(tmp_path / "train", 48)


def build(model_type: str = "llama", **changes: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    known = {name: value for name, value in SIZES.items() if hasattr(AutoConfig.for_model(model_type), name)}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **{**known, **changes}), dtype=torch.float32).eval()
    for parameter in model.parameters():  # large enough that whatever is seen shows
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def losses_of(model: Any, batch: Batch) -> torch.Tensor:
    """The loss at each position, 0 where it does not count."""
    inputs: dict[str, Any] = {}
    if model.config._attn_implementation == ATTENTION:
        assert batch.layout is not None
        inputs = {"document_lengths": batch.layout.lengths, "document_boundaries": batch.layout.boundaries}
    logits = model(input_ids=batch.tokens, position_ids=batch.positions, use_cache=False, **inputs).logits
    return functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED, reduction="none")


class TestPack:
    def test_positions_restart_and_beginnings_do_not_count(self, store: TokenStore) -> None:
        batch = pack(store, range(len(store)), are_apart=True)
        assert batch.positions is not None
        assert batch.layout is not None
        tokens, targets, positions = batch.tokens.flatten(), batch.targets.flatten(), batch.positions.flatten()
        everything = store.tokens(0, store.token_count)
        end = int(everything[-1])
        for place in range(len(tokens)):
            assert int(targets[place]) == (IGNORED if tokens[place] == end else everything[place + 1])
            follows_an_end = place > 0 and tokens[place - 1] == end
            assert int(positions[place]) == (0 if place % 48 == 0 or follows_an_end else int(positions[place - 1]) + 1)
        assert sum(batch.layout.lengths) == len(tokens)
        assert batch.layout.boundaries[-1] == len(tokens)

    def test_joined_documents_predict_each_other(self, store: TokenStore) -> None:
        batch = pack(store, [1], are_apart=False)
        assert (batch.positions, batch.layout) == (None, None)
        assert batch.targets[0].tolist() == store.tokens(49, 97).tolist()

    def test_counts_documents_that_are_cut(self, store: TokenStore) -> None:
        ends = np.flatnonzero(store.tokens(0, store.token_count) == store.tokens(store.token_count - 1, store.token_count)) + 1
        starts = [0, *ends[:-1]]
        expected = sum(start // 48 != (end - 1) // 48 for start, end in zip(starts, ends, strict=True))
        assert store.count_cut() == expected > 0


class TestApart:
    @pytest.mark.parametrize("attention", [ATTENTION, "sdpa"])
    def test_each_token_costs_what_it_costs_alone(self, store: TokenStore, attention: str) -> None:
        model = build(num_key_value_heads=1)
        model.set_attn_implementation(attention)
        batch = pack(store, [0, 1], are_apart=True)
        packed = losses_of(model, batch)
        assert batch.layout is not None
        pieces = batch.tokens.flatten().split(batch.layout.lengths)
        wanted = batch.targets.flatten().split(batch.layout.lengths)
        model.set_attn_implementation("eager")
        alone = [
            losses_of(model, Batch(tokens[None], torch.arange(len(tokens))[None], targets[None], None))
            for tokens, targets in zip(pieces, wanted, strict=True)
        ]
        assert len(pieces) > 6
        assert torch.allclose(packed, torch.cat(alone), atol=1e-5, rtol=0)

    @pytest.mark.parametrize("model_type", ["llama", "gpt2", *(
        pytest.param(each, marks=pytest.mark.slow) for each in CAUSAL_MODEL_TYPES if each not in {"llama", "gpt2"}
    )])  # fmt: skip
    def test_every_model_type_on_the_list(self, store: TokenStore, model_type: str) -> None:
        model = build(model_type)
        attention = choose_attention(model, "cpu", "fp32", 256, compiles=False)
        model.set_attn_implementation(attention)
        batch = pack(store, [0], are_apart=True)
        losses = losses_of(model, batch)
        swapped = batch.tokens.clone()
        assert batch.layout is not None
        swapped[0, : batch.layout.lengths[0]] += 1
        others = losses_of(model, Batch(swapped, batch.positions, batch.targets, batch.layout))
        later = slice(batch.layout.lengths[0], None)
        assert torch.allclose(losses[later], others[later], atol=1e-5, rtol=0)
        assert not torch.allclose(losses[: later.start], others[: later.start], atol=1e-2)
        # What the loop computes without logits is what the logits say.
        trained = TrainedModel(model, has_plain_head=model_type in PLAIN_MODEL_TYPES - OWN_LOGITS and model.lm_head.bias is None)
        counted = int((batch.targets != IGNORED).sum())
        assert float(trained(batch)) == pytest.approx(float(losses.sum()) / counted, rel=1e-5)

    def test_a_model_that_mixes_them_is_refused(self) -> None:
        check_documents_apart(Engine(build()), 32)
        stateful = build("mamba", state_size=4, expand=2, conv_kernel=4)
        stateful.forward = lambda position_ids, forward=stateful.forward, **named: forward(**named)
        with pytest.raises(BadData, match=r"`mamba` lets packed documents see each other .* set documents to `joined`"):
            check_documents_apart(Engine(stateful), 32)


class Engine(torch.nn.Module):  # type: ignore[misc]
    """As much of DeepSpeed's engine as the check of documents uses."""

    device = torch.device("cpu")

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.module = TrainedModel(model, has_plain_head=False)

    def forward(self, batch: Batch) -> torch.Tensor:
        loss: torch.Tensor = self.module(batch)
        return loss


class TestCrossEntropy:
    @pytest.mark.parametrize("portion", [1, 64 * 50, 2**24])
    def test_portions_change_nothing(self, portion: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(cross_entropy.LOGITS_PER_PORTION, "cpu", portion)
        torch.manual_seed(1)
        targets = torch.randint(0, 50, (200,))
        targets[::7] = IGNORED
        hidden, weight = torch.randn(200, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
        expected = functional.cross_entropy(hidden @ weight.T, targets, ignore_index=IGNORED)
        gradients = torch.autograd.grad(expected * 3, [hidden, weight])
        loss = mean_cross_entropy(hidden, weight, targets)
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
        for found, wanted in zip(torch.autograd.grad(loss * 3, [hidden, weight]), gradients, strict=True):
            assert torch.allclose(found, wanted, atol=1e-6)
        with torch.no_grad():
            assert float(mean_cross_entropy(hidden, weight, targets)) == pytest.approx(float(expected.detach()), rel=1e-6)

    def test_nothing_that_counts_costs_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(cross_entropy.LOGITS_PER_PORTION, "cpu", 1)
        loss = mean_cross_entropy(torch.randn(9, 4), torch.randn(5, 4), torch.full((9,), IGNORED))
        assert float(loss) == 0.0


class TestOrder:
    @pytest.mark.parametrize("ranks", [1, 2, 3])
    def test_a_step_reads_the_same_sequences_on_any_number_of_ranks(self, ranks: int) -> None:
        def of_step(step: int, ranks: int) -> list[int]:
            orders = [Order(rank, ranks, 6 // ranks, 4, seed=3) for rank in range(ranks)]
            return sorted(n for order in orders for round_ in range(order.rounds) for n in order.numbers(step, round_, 1000))

        for step in range(3):
            assert of_step(step, ranks) == of_step(step, 1)
            assert len(set(of_step(step, ranks))) == 24


def test_a_fresh_model_guesses_evenly_whatever_is_packed(store: TokenStore) -> None:
    """Golden value: the loss of a model that knows nothing is the logarithm of its vocabulary."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(**{name: value for name, value in SIZES.items() if hasattr(LlamaConfig(), name)})
    loss = TrainedModel(LlamaForCausalLM(config), has_plain_head=True)(pack(store, [0, 1], are_apart=True))
    assert float(loss.detach()) == pytest.approx(math.log(400), abs=0.1)

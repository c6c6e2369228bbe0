"""Packing: whole conversations into full sequences, in an order that follows from the seed, without one seeing another."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from modelyard.domain.specs.finetuning import FinetuneSpec
from modelyard.workers.recipe import BadData, Run
from modelyard.workers.training.grouping import Course, group_by_length, pack

LENGTHS = [3, 8, 5, 5, 2, 9, 1, 4]


def run_of(folder: Path) -> Run[FinetuneSpec]:
    return Run(spec=FinetuneSpec(name="s", model="m", dataset="d"), folder=folder, inputs={})


class TestPack:
    @pytest.mark.parametrize(
        ("lengths", "capacity", "expected"),
        [
            (LENGTHS, 10, [[5, 6], [1, 4], [2, 3], [7, 0]]),
            ([10, 10], 10, [[0], [1]]),
            ([4, 3, 3], 10, [[0, 1, 2]]),
            ([], 10, []),
            # The tightest of the sequences that have room, not the first one.
            ([6, 7, 3], 10, [[1, 2], [0]]),
        ],
    )
    def test_the_longest_goes_first_where_it_fits_best(
        self, lengths: list[int], capacity: int, expected: list[list[int]]
    ) -> None:
        assert pack(lengths, capacity) == expected

    def test_real_lengths_leave_little_room(self) -> None:
        lengths = [20 + (number * number) % 480 for number in range(3000)]
        groups = pack(lengths, 512)
        assert sorted(number for group in groups for number in group) == list(range(3000))
        assert max(sum(lengths[number] for number in group) for group in groups) <= 512
        assert sum(lengths) / (len(groups) * 512) > 0.97

    def test_without_packing_neighbours_are_of_similar_length(self) -> None:
        assert group_by_length(LENGTHS, 3) == [[6, 4, 0], [7, 2, 3], [1, 5]]


class TestCourse:
    @pytest.mark.parametrize(("ranks", "rounds"), [(1, 4), (2, 2), (4, 1)])
    def test_a_step_is_the_same_however_it_is_shared_out(self, ranks: int, rounds: int) -> None:
        groups = [[number] for number in range(10)]
        course = Course(groups, 2, rounds, ranks, seed=3)
        shares = [course.batch(1, round_, rank) for round_ in range(rounds) for rank in range(ranks)]
        assert [number for share in shares for number in share] == course.step(1)
        assert course.step(1) == Course(groups, 2, 4, 1, seed=3).step(1)

    def test_every_group_is_seen_once_in_a_pass(self) -> None:
        course = Course([[number] for number in range(12)], 3, 2, 1, seed=3)
        assert sorted(course.step(0) + course.step(1)) == list(range(12))
        assert course.step(0) + course.step(1) != list(range(12))


class TestIsolation:
    """Real forward and backward passes of a random model."""

    @pytest.fixture
    def examples(self, tiny_model: Path, chat_dataset: Path) -> Any:
        from transformers import AutoTokenizer

        from modelyard.workers.dataset import open_dataset
        from modelyard.workers.training.completions import tokenize_completions

        rows = islice(open_dataset(chat_dataset, "chat").rows("train"), 5)
        return tokenize_completions(rows, AutoTokenizer.from_pretrained(tiny_model), 256, "all").examples

    @staticmethod
    def losses(model: Any, examples: Any, lay: Any) -> tuple[float, int, Any]:
        """Return summed loss, right guesses, and the gradient of the first layer's queries."""
        from modelyard.workers.training.token_loss import sum_losses

        model.zero_grad()
        loss, correct = sum_losses(model, lay(examples, "cpu"))
        loss.backward()
        return loss.item(), int(correct), model.model.layers[0].self_attn.q_proj.weight.grad.clone()

    @pytest.mark.parametrize("attention", ["ours", "mask"])
    def test_a_packed_conversation_is_learned_as_if_it_were_alone(
        self, tiny_model: Path, tmp_path: Path, examples: Any, attention: str
    ) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        from modelyard.workers.training.conversation_batch import lay_below_each_other, lay_end_to_end
        from modelyard.workers.training.documents import ATTENTION
        from modelyard.workers.training.tuned_model import keep_apart

        model = AutoModelForCausalLM.from_pretrained(tiny_model)
        model.config.use_cache = False
        alone = [self.losses(model, [example], lay_below_each_other) for example in examples]
        padded = self.losses(model, examples, lay_below_each_other)
        if attention == "ours":
            keep_apart(run_of(tmp_path), model)
            assert model.config._attn_implementation == ATTENTION
        packed = self.losses(model, examples, lay_end_to_end)
        for found in (padded, packed):
            assert found[0] == pytest.approx(sum(loss for loss, *_ in alone), rel=1e-5)
            assert found[1] == sum(correct for _, correct, _ in alone)
            assert torch.allclose(found[2], sum(gradient for *_, gradient in alone), rtol=1e-4, atol=1e-4)

    def test_an_architecture_that_would_mix_them_is_refused(self, tmp_path: Path) -> None:
        from transformers import BloomConfig, BloomForCausalLM, MambaConfig, MambaForCausalLM

        from modelyard.workers.training.tuned_model import keep_apart

        for model in (
            BloomForCausalLM(BloomConfig(vocab_size=8, hidden_size=8, n_layer=1, n_head=1)),
            MambaForCausalLM(MambaConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1)),
        ):
            with pytest.raises(BadData, match="set packing to false"):
                keep_apart(run_of(tmp_path), model)

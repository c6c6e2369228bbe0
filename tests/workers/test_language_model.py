"""Batched likelihoods and answers against a naive loop over one item at a time."""

from pathlib import Path

import pytest
import torch

from modelyard.workers import language_model
from modelyard.workers.conversations import read_conversations
from modelyard.workers.language_model import LanguageModel, load_language_model
from modelyard.workers.recipe import BadData


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LanguageModel:
    return load_language_model(tiny_model)


@pytest.fixture(scope="module")
def items(chat_dataset: Path) -> tuple[list[list[dict[str, str]]], list[str]]:
    read = read_conversations(chat_dataset, "heldout")
    return [list(item.messages) for item in read], [item.reference for item in read]


@torch.inference_mode()
def naive_likelihood(model: LanguageModel, prompt: list[int], answer: list[int]) -> float:
    """Add up token after token, each with a forward pass of its own and no padding."""
    total = 0.0
    for position, token in enumerate(answer):
        logits = model.model(input_ids=torch.tensor([prompt + answer[:position]])).logits[0, -1]
        total -= float(torch.log_softmax(logits.double(), dim=-1)[token])
    return total


class TestScoreAnswers:
    def test_equals_a_loop_over_tokens(
        self, model: LanguageModel, items: tuple[list[list[dict[str, str]]], list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Several batches with padding inside each.
        monkeypatch.setattr(language_model, "TOKENS_PER_BATCH", 300)
        prompts, answers = items
        scored = dict(model.score_answers(prompts, answers))
        assert sorted(scored) == list(range(len(prompts)))
        for index in range(0, len(prompts), 4):
            prompt, answer = model.encode_prompt(prompts[index]), model.encode_answer(answers[index])
            assert scored[index].total == pytest.approx(naive_likelihood(model, prompt, answer), rel=1e-4)
            assert scored[index].tokens == len(answer)
            assert not scored[index].truncated

    def test_an_item_longer_than_the_context_loses_the_beginning_of_its_prompt(self, model: LanguageModel) -> None:
        prompt = [{"role": "user", "content": "why " * 400}]
        [(_, likelihood)] = model.score_answers([prompt], ["The apple."])
        answer = model.encode_answer("The apple.")
        kept = model.encode_prompt(prompt)[-(model.context_tokens - len(answer)) :]
        assert likelihood.truncated
        assert likelihood.total == pytest.approx(naive_likelihood(model, kept, answer), rel=1e-4)

    def test_the_end_of_the_answer_is_scored(self, model: LanguageModel) -> None:
        assert model.encode_answer("The apple.")[-1] == model.tokenizer.eos_token_id


class TestAnswerGreedily:
    def test_batch_equals_one_at_a_time(self, model: LanguageModel, items: tuple[list[list[dict[str, str]]], list[str]]) -> None:
        prompts, _ = items
        together = dict(model.answer_greedily(prompts, 12))
        alone = {index: next(model.answer_greedily([prompt], 12))[1] for index, prompt in enumerate(prompts)}
        assert together == alone
        assert len(set(together.values())) > 1

    def test_no_room_for_a_prompt_is_an_error(self, model: LanguageModel) -> None:
        with pytest.raises(BadData, match="leaves no room"):
            next(model.answer_greedily([[{"role": "user", "content": "x"}]], model.context_tokens))


class TestLoadLanguageModel:
    def test_a_folder_without_a_model_is_bad_data(self, tmp_path: Path) -> None:
        with pytest.raises(BadData, match="cannot be loaded as a causal language model"):
            load_language_model(tmp_path)

    def test_an_adapter_alone_is_bad_data(self, tmp_path: Path) -> None:
        (tmp_path / "adapter_config.json").write_text("{}")
        with pytest.raises(BadData, match="LoRA adapter"):
            load_language_model(tmp_path)

    def test_auto_on_a_cpu_is_fp32(self, model: LanguageModel) -> None:
        assert model.precision == "fp32"
        assert model.model.dtype == torch.float32

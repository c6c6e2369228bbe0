"""What of a conversation is learned, token by token."""

from pathlib import Path
from typing import Any

import pytest

from modelyard.workers.recipe import BadData
from modelyard.workers.training.completions import Example, tokenize_completions

TURNS = ("the apple", "one answer", "the river", "another answer")


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def row(*turns: str) -> dict[str, Any]:
    return {"messages": [{"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(turns)]}


def learned(example: Example, tokenizer: Any) -> str:
    return str(tokenizer.decode(example.tokens[example.learned]))


class TestLabel:
    @pytest.mark.parametrize(
        ("loss_on", "expected"),
        [
            ("last_answer", "another answer<|im_end|>\n"),
            ("answers", "one answer<|im_end|>\nanother answer<|im_end|>\n"),
            (
                "all",
                "<|im_start|>user\nthe apple<|im_end|>\n<|im_start|>assistant\none answer<|im_end|>\n"
                "<|im_start|>user\nthe river<|im_end|>\n<|im_start|>assistant\nanother answer<|im_end|>\n",
            ),
        ],
    )
    def test_covers_what_was_asked_for_and_nothing_else(self, tokenizer: Any, loss_on: Any, expected: str) -> None:
        (example,) = tokenize_completions([row(*TURNS)], tokenizer, 256, loss_on).examples
        assert learned(example, tokenizer) == expected
        assert tokenizer.decode(example.tokens).count("answer") == 2
        assert example.predictions == example.learned.sum() - (loss_on == "all")

    def test_a_token_across_the_border_belongs_to_the_answer(self, tokenizer: Any) -> None:
        tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
        (example,) = tokenize_completions([row("the app", "le<|im_end|>")], tokenizer, 64).examples
        assert " apple" in [tokenizer.decode([token]) for token in example.tokens]
        assert learned(example, tokenizer) == " apple<|im_end|>"

    def test_adds_the_end_a_template_forgets(self, tokenizer: Any) -> None:
        tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
        (example,) = tokenize_completions([row("a", "b")], tokenizer, 64).examples
        assert (example.tokens[-1], example.learned[-1]) == (tokenizer.eos_token_id, True)

    def test_earlier_answers_that_a_template_shortens_cannot_be_learned(self, tokenizer: Any) -> None:
        tokenizer.chat_template = (
            "{% for m in messages %}{{ m['role'] }}: {{ m['content'] if loop.last else m['content'][:3] }}\n{% endfor %}"
            "{% if add_generation_prompt %}assistant: {% endif %}"
        )
        assert tokenize_completions([row(*TURNS)], tokenizer, 256, "last_answer").examples
        with pytest.raises(BadData, match="use loss_on `last_answer` or `all`"):
            tokenize_completions([row(*TURNS)], tokenizer, 256, "answers")


class TestTruncate:
    def test_counts_what_is_cut_and_what_is_lost(self, tokenizer: Any) -> None:
        rows = [row("a", "b"), row("a", "b" * 200), row("a" * 200, "b")]
        found = tokenize_completions(rows, tokenizer, 64)
        assert (len(found.examples), found.truncated, found.dropped) == (2, 1, 1)
        assert max(len(example.tokens) for example in found.examples) == 64

    def test_refuses_a_model_without_a_template(self, tokenizer: Any) -> None:
        tokenizer.chat_template = None
        with pytest.raises(BadData, match="no chat template"):
            tokenize_completions([row("a", "b")], tokenizer, 64)

    @pytest.mark.parametrize(
        ("template", "says"),
        [
            ("{% if messages %}{{ raise_exception('no system, please') }}{% endif %}", "of user, assistant: no system, please"),
            ("{% for message in %}", "cannot write a conversation"),
            ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ],
    )
    def test_refuses_what_a_template_cannot_write(self, tokenizer: Any, template: str, says: str) -> None:
        tokenizer.chat_template = template
        with pytest.raises(BadData, match=says):
            tokenize_completions([row("a", "b")], tokenizer, 64)

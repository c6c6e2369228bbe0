"""Text of an answer, token by token."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from modelyard.workers.serving.answer import Answer


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(tiny_model)


def pieces(tokenizer: PreTrainedTokenizerFast, text: str, stops: list[str]) -> tuple[list[str], Answer]:
    """Feed the tokens of a text one by one."""
    answer = Answer(tokenizer, 5, [tokenizer.eos_token_id], stops)
    found = []
    for token in tokenizer(text)["input_ids"]:
        found.append(answer.add([token]))
        if answer.is_finished:
            break
    return [*found, answer.rest()], answer


def test_characters_of_several_tokens_come_out_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "naïve 🦉 漢字"
    found, answer = pieces(tokenizer, text, [])
    assert "".join(found) == text
    assert "\ufffd" not in "".join(found)
    assert answer.completion_tokens == len(tokenizer(text)["input_ids"]) > len(text)
    assert answer.finish_reason == "length"


def test_the_end_token_counts_and_is_not_shown(tokenizer: PreTrainedTokenizerFast) -> None:
    found, answer = pieces(tokenizer, "yes<|im_end|>more", [])
    assert "".join(found) == "yes"
    assert answer.finish_reason == "stop"
    assert answer.usage["total_tokens"] == 5 + answer.completion_tokens


@pytest.mark.parametrize(
    ("text", "stops", "expected", "reason"),
    [
        ("one END two", ["END"], "one ", "stop"),
        ("one EN two", ["END"], "one EN two", "length"),
        ("one EN", ["END"], "one EN", "length"),
        ("aab", ["ab"], "a", "stop"),
        ("x##y", ["y", "##"], "x", "stop"),
    ],
)
def test_stop_texts(tokenizer: PreTrainedTokenizerFast, text: str, stops: list[str], expected: str, reason: str) -> None:
    found, answer = pieces(tokenizer, text, stops)
    assert "".join(found) == expected
    assert answer.finish_reason == reason

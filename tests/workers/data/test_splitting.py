"""No held-out prompt or passage may occur in training, and the split follows from content alone."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.workers.data.keys import loose_key, strict_key
from modelyard.workers.data.rows import Row
from modelyard.workers.data.splitting import BOILERPLATE_ROWS, split_rows
from modelyard.workers.recipe import BadData


def chat(prompt: str, answer: str, system: str | None = None) -> Row:
    turns = [("user", prompt), ("assistant", answer)]
    messages = [{"role": role, "content": content} for role, content in ([("system", system)] if system else []) + turns]
    return {"messages": messages}


def user_texts(rows: list[Row]) -> set[str]:
    return {loose_key(turn["content"]) for row in rows for turn in row["messages"] if turn["role"] == "user"}


class TestSplit:
    @given(
        st.lists(
            st.sampled_from(["What is AI?", "what is ai", "Hello!", "hello", "1+1", "11", "Why", "?!", "東京は"]), min_size=8
        )
    )
    def test_never_divides_a_prompt(self, prompts: list[str]) -> None:
        rows = [chat(prompt, f"answer {number}") for number, prompt in enumerate(prompts)]
        try:
            train, heldout = split_rows(rows, 0.3, seed=1)
        except BadData:
            assert max(prompts.count(prompt) for prompt in prompts) * 2 > len(rows) or len(user_texts(rows)) == 1
            return
        assert train
        assert heldout
        assert not user_texts(train) & user_texts(heldout)
        assert len(train) + len(heldout) == len(rows)

    def test_keeps_a_prompt_together_under_other_system_texts(self) -> None:
        rows = [chat(f"question {number // 2}", "a", system=f"system {number}") for number in range(40)]
        train, heldout = split_rows(rows, 0.25, seed=3)
        assert not user_texts(train) & user_texts(heldout)

    def test_keeps_passages_together_that_share_a_long_paragraph(self) -> None:
        shared = "It was the best of times, it was the worst of times, it was the age of wisdom"
        rows = [{"text": f"{shared}\n\nfirst continuation"}, {"text": f"another beginning\n\n{shared.upper()}"}]
        rows += [{"text": f"passage number {number} about something else"} for number in range(30)]
        for seed in range(20):
            train, _ = split_rows(rows, 0.3, seed)
            assert (rows[0] in train) == (rows[1] in train)

    def test_boilerplate_does_not_tie_everything_together(self) -> None:
        boilerplate = "All rights reserved; no part of this text may be reproduced without permission"
        rows = [{"text": f"{boilerplate}\n\ntext {number}"} for number in range(BOILERPLATE_ROWS + 10)]
        train, heldout = split_rows(rows, 0.2, seed=1)
        assert len(heldout) == 6
        assert len(train) == 24

    def test_holds_out_the_asked_share_of_groups(self) -> None:
        train, heldout = split_rows([chat(f"prompt {number}", "a") for number in range(200)], 0.1, seed=17)
        assert (len(train), len(heldout)) == (180, 20)

    def test_does_not_depend_on_the_order_of_rows(self) -> None:
        rows = [chat(f"prompt {number}", "a") for number in range(50)]
        shuffled = random.Random(5).sample(rows, len(rows))  # noqa: S311 - an order, not a secret
        assert user_texts(split_rows(rows, 0.2, 7)[1]) == user_texts(split_rows(shuffled, 0.2, 7)[1])
        assert user_texts(split_rows(rows, 0.2, 7)[1]) != user_texts(split_rows(rows, 0.2, 8)[1])

    def test_refuses_rows_that_share_one_prompt(self) -> None:
        with pytest.raises(BadData, match="share one prompt"):
            split_rows([chat("same", "a"), chat("Same!", "b")], 0.5, seed=1)


def test_strict_keys_tell_signs_apart_and_loose_keys_do_not() -> None:
    assert strict_key("1 + 1") != strict_key("1 - 1")
    assert strict_key(" A\n b ") == strict_key("a B")
    assert loose_key("What's AI?!") == loose_key("what s ai")
    assert loose_key("??") != loose_key("!")

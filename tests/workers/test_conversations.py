"""Reading chat items and putting templates round them."""

import json
from pathlib import Path

import pytest

from modelyard.domain.specs.prompts import Template
from modelyard.workers.conversations import apply_template, read_conversations, read_template, sample_conversations
from modelyard.workers.recipe import BadData

USER = {"role": "user", "content": "Why {prompt}?"}
SYSTEM = {"role": "system", "content": "mine"}


class TestApplyTemplate:
    def test_adds_system_and_wraps_the_last_user_message_only(self) -> None:
        messages = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}, USER]
        shaped = apply_template(messages, Template(name="t", system="be kind", user="Q: {prompt} A:"))
        assert [message["content"] for message in shaped] == ["be kind", "one", "two", "Q: Why {prompt}? A:"]

    def test_keeps_the_client_s_system_text(self) -> None:
        assert apply_template([SYSTEM, USER], Template(name="t", system="be kind")) == [SYSTEM, USER]

    def test_leaves_the_given_messages_alone(self) -> None:
        messages = [dict(USER)]
        apply_template(messages, Template(name="t", user="x {prompt}"))
        assert messages == [USER]


class TestReadConversations:
    def test_splits_off_the_reference(self, chat_dataset: Path) -> None:
        items = read_conversations(chat_dataset, "heldout")
        assert len(items) == 20
        assert items[0].reference == "The apple is number 60."
        assert [message["role"] for message in items[0].messages] == ["user"]

    @pytest.mark.parametrize("messages", [[USER], [SYSTEM, USER], [{"role": "assistant", "content": "x"}], []])
    def test_names_the_line_that_has_no_answer(self, tmp_path: Path, messages: list[dict[str, str]]) -> None:
        (tmp_path / "dataset.json").write_text('{"schema": "chat"}')
        good = {"messages": [USER, {"role": "assistant", "content": "so"}]}
        (tmp_path / "heldout.jsonl").write_text(json.dumps(good) + "\n" + json.dumps({"messages": messages}) + "\n")
        with pytest.raises(BadData, match=r"heldout\.jsonl line 2"):
            read_conversations(tmp_path, "heldout")

    def test_sampling_is_by_seed(self, chat_dataset: Path) -> None:
        items = read_conversations(chat_dataset, "heldout")
        assert sample_conversations(items, 5, seed=1) == sample_conversations(items, 5, seed=1)
        assert sample_conversations(items, 5, seed=1) != sample_conversations(items, 5, seed=2)
        assert len(sample_conversations(items, 999, seed=1)) == 20


def test_a_folder_without_a_prompt_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prompt.json").write_text('{"name": "x"}')
    with pytest.raises(BadData, match=r"prompt\.json is not a prompt"):
        read_template(tmp_path)

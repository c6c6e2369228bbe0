"""The light tokenizer says what transformers' says, so that a preview shows what the recipes see."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.workers.recipe import BadData
from modelyard.workers.training.completions import tokenize_completions
from modelyard.workers.training.light_tokenizer import LightTokenizer
from modelyard.workers.training.previewed_rows import preview_rows

TEMPLATES = {
    "filters": "{{ messages | tojson }}{% if add_generation_prompt %}{{ bos_token }}>{{ eos_token }}{% endif %}",
    "blocks": """{% for message in messages %}
    {% if loop.index > 3 %}{% break %}{% endif %}
    {% if message.role == 'assistant' %}{% generation %}{{ message.content }}{% endgeneration %}{% else %}
{{ message.role | upper }}: {{ message['content'].strip() }}
    {% endif %}
{% endfor %}
{% if tools is none and documents is not defined or true %}.{% endif %}""",
}
TEXTS = ["", "The apple of house 61.", "  two  spaces\n\n", "naïve – 東京 🙂", "<|im_start|>user\nhi<|im_end|>"]


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def both(folder: Path) -> tuple[Any, LightTokenizer]:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder), LightTokenizer(folder)


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A model to change."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


class TestSame:
    def test_ids_of_texts(self, model: Path) -> None:
        whole, light = both(model)
        assert light(TEXTS, add_special_tokens=False) == {"input_ids": whole(TEXTS, add_special_tokens=False)["input_ids"]}
        assert light.eos_token_id == whole.eos_token_id
        assert [light.decode(token) for token in range(400)] == [whole.decode([token]) for token in range(400)]

    def test_labels_of_conversations(self, model: Path, chat_dataset: Path) -> None:
        whole, light = both(model)
        for length, loss_on in ((64, "last_answer"), (256, "answers"), (256, "all")):
            expected = tokenize_completions(rows(chat_dataset), whole, length, loss_on)
            found = tokenize_completions(rows(chat_dataset), light, length, loss_on)
            assert [each.tokens.tolist() for each in found.examples] == [each.tokens.tolist() for each in expected.examples]
            assert [each.learned.tolist() for each in found.examples] == [each.learned.tolist() for each in expected.examples]
            assert (found.truncated, found.dropped) == (expected.truncated, expected.dropped)
            assert expected.examples

    @pytest.mark.parametrize("name", TEMPLATES)
    def test_templates(self, model: Path, chat_dataset: Path, name: str) -> None:
        (model / "chat_template.jinja").write_text(TEMPLATES[name])
        whole, light = both(model)
        for row in rows(chat_dataset)[:5]:
            for asks in (False, True):
                expected = whole.apply_chat_template(row["messages"], tokenize=False, add_generation_prompt=asks)
                assert light.apply_chat_template(row["messages"], add_generation_prompt=asks) == expected

    def test_text_of_pre_training(self, model: Path) -> None:
        whole, light = both(model)
        spec = PretrainSpec(name="p", dataset="d")
        (row,) = preview_rows(spec, [{"text": TEXTS[1]}], light)
        (found,) = row.sequences
        ids, learned = found.ids, found.learned
        assert ids == [*whole(TEXTS[1], add_special_tokens=False)["input_ids"], whole.eos_token_id]
        assert learned == [False] + [True] * (len(ids) - 1)


class TestRefuse:
    @pytest.mark.parametrize(
        ("template", "reason"),
        [
            ("{{ raise_exception('no system, please') }}", "no system, please"),
            ("{{ messages[99].content }}", "cannot render"),
            ("{% for %}", "template is wrong"),
            ("{{ ''.__class__.__mro__ }}", "unsafe"),
            ("{{ messages.append(1) }}", "unsafe"),
            ("{{ range(100001) }}", "Range too big"),
            ("{{ 1 / 0 }}", "division by zero"),
        ],
    )
    def test_templates_that_fail_or_reach_out(self, model: Path, template: str, reason: str) -> None:
        (model / "chat_template.jinja").write_text(template)
        with pytest.raises(BadData, match=reason):
            LightTokenizer(model).apply_chat_template([{"role": "user", "content": "hi"}])

    def test_no_tokenizer(self, tmp_path: Path) -> None:
        with pytest.raises(BadData, match="no tokenizer"):
            LightTokenizer(tmp_path)

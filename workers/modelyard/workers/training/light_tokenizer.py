"""A model's tokenizer and chat template without transformers: for looking at a few rows, in a process that must start at once.

Does what the recipes ask of transformers' tokenizer, and the same (tests compare them). Templates come with models from
outside: they render in jinja's sandbox, in a process whose time and memory are limited.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
from jinja2.nodes import Scope
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from modelyard.workers.recipe import BadData

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"
SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class LightTokenizer:
    """Reads `tokenizer.json` and what lies beside it. Raises `BadData` if there is none."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
            config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        except Exception as error:  # the library raises no class of its own
            raise BadData(f"the model has no tokenizer that can be read from {TOKENIZER_FILE}: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.special_tokens = {name: _text(config[name]) for name in SPECIAL if config.get(name) is not None}
        self.chat_template = _read_template(folder, config)

    @property
    def eos_token_id(self) -> int | None:
        """The token that ends a text; None without one."""
        number: int | None = self._tokenizer.token_to_id(self.special_tokens.get("eos_token", ""))
        return number

    def __call__(
        self, texts: Sequence[str], add_special_tokens: bool = True, return_offsets_mapping: bool = False
    ) -> dict[str, list[Any]]:
        """Token ids of each text; with the characters each token stands for, if asked."""
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=add_special_tokens)
        offsets = {"offset_mapping": [each.offsets for each in encoded]} if return_offsets_mapping else {}
        return {"input_ids": [each.ids for each in encoded], **offsets}

    def apply_chat_template(
        self, messages: list[dict[str, str]], tokenize: bool = False, add_generation_prompt: bool = False, **values: Any
    ) -> str:
        """Render a conversation as text. Raises `BadData` where the template cannot."""
        assert not tokenize
        try:
            return self._template.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **{**self.special_tokens, **values},
            )
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise BadData(f"the model's chat template cannot render this conversation: {error}") from error

    def decode(self, token: int) -> str:
        """The text of one token; half a character shows as `�`."""
        return str(self._tokenizer.decode([token], skip_special_tokens=False))

    @cached_property
    def _template(self) -> jinja2.Template:
        try:
            return make_environment().from_string(self.chat_template or "")
        except jinja2.TemplateError as error:
            raise BadData(f"the model's chat template is wrong: {error}") from error


def make_environment() -> ImmutableSandboxedEnvironment:
    """Jinja as transformers sets it up for chat templates."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda format_: datetime.now().astimezone().strftime(format_)
    return environment


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant says; as text it is only its content."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> Scope:
        line = next(parser.stream).lineno
        return Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    # Jinja's own filter escapes for HTML.
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _text(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _read_template(folder: Path, config: dict[str, Any]) -> str | None:
    path = folder / TEMPLATE_FILE
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):  # several, by name
        template = next((each["template"] for each in template if each.get("name") == "default"), None)
    return str(template) if template is not None else None

"""Small real material for the recipes: a random Llama that can chat, conversations, and recipes run as processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOPICS = ["apple", "river", "engine", "violin", "planet", "garden", "harbour", "winter", "letter", "castle"]
TINY_CONTEXT = 256
"""Tokens of the tiny model's context."""


@dataclass
class Recipe:
    """Starts recipes as the runner does: `run.json` in, a process, `events.jsonl` out."""

    folder: Path

    def start(self, module: str, document: dict[str, Any]) -> "subprocess.Popen[str]":
        """Start a recipe; the caller waits for it or ends it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "run.json").write_text(json.dumps(document))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", f"modelyard.workers.{module}", "--run-dir", str(self.folder)]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
        )

    def run(self, module: str, document: dict[str, Any]) -> tuple[int, str]:
        """Run a recipe to its end; return exit code and log."""
        process = self.start(module, document)
        log, _ = process.communicate(timeout=120)
        return process.returncode, log

    def events(self, type_: str) -> list[dict[str, Any]]:
        """Return the events of one type the recipe has written by now."""
        path = self.folder / "events.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [event for line in lines if (event := json.loads(line))["type"] == type_]

    def wait_for(self, type_: str, process: "subprocess.Popen[str]", seconds: float = 90) -> dict[str, Any]:
        """Return the first event of a type as soon as it is there. Fails with the log if the process ends before."""
        deadline = time.monotonic() + seconds
        while not (found := self.events(type_)):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                pytest.fail(f"no `{type_}` event; exit code {process.poll()}, log:\n{process.communicate()[0]}")
            time.sleep(0.02)
        return found[0]

    def figures(self) -> dict[str, Any]:
        """Return the headline figures."""
        return dict(self.events("figures")[-1]["values"])


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A run folder of its own for one recipe."""
    return Recipe(tmp_path / "run")


@pytest.fixture(scope="session")
def recipe_in() -> Callable[[Path], Recipe]:
    """Make a recipe with a run folder of the caller's choice, for servers that several tests share."""
    return Recipe


@pytest.fixture(scope="session")
def write_model() -> Callable[..., Path]:
    """The writer of tiny models, for tests that need one of their own."""
    return write_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random chat model: 2 layers, hidden size 32."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny-model"), seed=1)


@pytest.fixture(scope="session")
def other_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same architecture and tokenizer with other random weights."""
    return write_tiny_model(tmp_path_factory.mktemp("other-tiny-model"), seed=2)


@pytest.fixture(scope="session")
def chat_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a prepared chat dataset: 60 training and 20 held-out conversations."""
    return write_chat_dataset(tmp_path_factory.mktemp("chat-dataset"))


def write_chat_dataset(folder: Path) -> Path:
    """Write `train.jsonl`, `heldout.jsonl` and `dataset.json`."""
    for split, first, count in (("train", 0, 60), ("heldout", 60, 20)):
        rows = [conversation(number) for number in range(first, first + count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    (folder / "dataset.json").write_text(json.dumps({"schema": "chat"}))
    return folder


def conversation(number: int) -> list[dict[str, str]]:
    """One question and its answer, different for every number and of different lengths."""
    topic = TOPICS[number % len(TOPICS)]
    question = f"What can you tell me about the {topic} of house {number}" + ", and why" * (number % 4) + "?"
    return [{"role": "user", "content": question}, {"role": "assistant", "content": f"The {topic} is number {number}."}]


def write_tiny_model(folder: Path, seed: int, context_tokens: int = TINY_CONTEXT, is_endless: bool = False) -> Path:
    """Write a random Llama and a byte-level BPE tokenizer with a ChatML template, as `save_pretrained` does.

    An endless model never ends an answer by itself.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _train_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=context_tokens,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        # Far from uniform, so that the most likely token does not hang on the last bit of a sum.
        initializer_range=0.4,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    if is_endless:
        # A logit of 0 is never the largest of 400 random ones.
        model.lm_head.weight.data[tokenizer.eos_token_id].zero_()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _train_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    specials = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    texts = [message["content"] for number in range(60) for message in conversation(number)]
    raw.train_from_iterator([*texts, "system user assistant"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|pad|>")
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer

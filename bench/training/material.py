"""What is trained: models and data out of installed packages, made once by Modelyard's own recipes.

Kept below the cache of the benchmarks (`MODELYARD_BENCH_CACHE`); nothing is downloaded.
"""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.environments import cache
from bench.measurement import say
from bench.training.subjects import run_module
from modelyard.domain.specs.architectures import PRESETS, ArchitectureSpec, Preset

EXAMPLES = Path(__file__).parents[2] / "examples" / "recipes"
LONG_SHARE = 0.25
"""Of the conversations; the others are the short ones of chatterbot-corpus."""
CONVERSATION_TOKENS = 512
"""No conversation is longer."""
CHARACTERS_PER_TOKEN = 2.6
"""Of the plays in SmolLM2's tokens, from below, so that no passage is cut."""
PRESET_CONTEXT = 512
SMALLEST = Preset(
    architecture=ArchitectureSpec(hidden_size=64, intermediate_size=176, layers=2, heads=2, key_value_heads=2),
    vocabulary_size=512,
)
"""0.1 M parameters: so small that a step is mostly the start of operations."""


def texts() -> Path:
    """The plays of Shakespeare, prepared."""
    return _made("plays", lambda folder: _run_example("data.recipes.prepare", "prepare_text", folder, "dataset"))


def texts_with_few_heldout(rows: int) -> Path:
    """The same, with so few held-out passages that to validate a large model on a CPU takes seconds."""
    return _made(f"plays-{rows}", lambda folder: _copy_texts(folder, rows))


def smollm2() -> Path:
    """SmolLM2-135M-Instruct, converted."""
    return _made("smollm2", lambda folder: _run_example("data.recipes.import_model", "import", folder, "model"))


def size_of(name: str) -> Preset:
    """A preset, or `0.1M`."""
    return {**PRESETS, "0.1M": SMALLEST}[name]


def new_model(size: str) -> Path:
    """A randomly initialised model of a size with a tokenizer of the plays: where every subject begins."""
    return _made(f"new-{size}", lambda folder: _write_new_model(size_of(size), folder))


def conversations(train: int, heldout: int) -> Path:
    """Conversations of skewed lengths: three of four are pairs of chatterbot-corpus, the fourth asks for a passage of a play.

    A passage is a beginning of a prepared text; its length is log-uniform between 60 tokens and the longest allowed.
    """
    return _made(f"chats-{train}-{heldout}", lambda folder: _write_conversations(folder, train, heldout))


def _made(name: str, make: Callable[[Path], None]) -> Path:
    folder = cache() / "training" / name
    if not folder.exists():
        say(f"making {folder}")
        partial = folder.with_name(f".{name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        make(partial)
        partial.rename(folder)
    return folder


def _run_example(module: str, example: str, folder: Path, output: str) -> None:
    run = folder.with_name(f"{folder.name}.run")
    arguments = ["--spec", str(EXAMPLES / f"{example}.yaml"), "--run-dir", str(run)]
    run.mkdir(parents=True, exist_ok=True)
    run_module(f"modelyard.workers.{module}", arguments, run / "log")
    folder.rmdir()
    (run / "outputs" / output).rename(folder)
    shutil.rmtree(run)


def _copy_texts(folder: Path, heldout: int) -> None:
    shutil.copytree(texts(), folder, dirs_exist_ok=True)
    rows = list(_rows(folder, "heldout"))[:heldout]
    (folder / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _write_new_model(size: Preset, folder: Path) -> None:
    from modelyard.domain.specs.pretraining import PretrainSpec
    from modelyard.workers.training.architecture import build_model
    from modelyard.workers.training.bpe import train_bpe, wrap_tokenizer

    spec = PretrainSpec(
        kind="pretrain", name="new", dataset="plays", architecture=size.architecture, vocabulary_size=size.vocabulary_size,
        sequence_length=PRESET_CONTEXT,
    )  # fmt: skip
    tokenizer = wrap_tokenizer(
        train_bpe((row["text"] for row in _rows(texts(), "train")), spec.tokens_to_train()), PRESET_CONTEXT
    )
    model = build_model(spec, tokenizer)
    if len(tokenizer) < spec.tokens_to_train():
        # The plays hold too few pairs for the vocabulary of a large preset; the matrix is as large as it would be.
        model.resize_token_embeddings(spec.tokens_to_train())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _write_conversations(folder: Path, train: int, heldout: int) -> None:
    chance = random.Random(17)
    chats = folder.with_name(f"{folder.name}-pairs")
    chats.mkdir(exist_ok=True)
    _run_example("data.recipes.prepare", "prepare_chat", chats, "dataset")
    for split, wanted in (("train", train), ("heldout", heldout)):
        rows = list(_mixed(list(_rows(chats, split)), list(_rows(texts(), split)), wanted, chance))
        lines = [json.dumps({"messages": messages}) for messages in rows]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps({"schema": "chat", "counts": {"train": train, "heldout": heldout}}))
    shutil.rmtree(chats)


def _mixed(
    pairs: list[dict[str, Any]], passages: list[dict[str, Any]], wanted: int, chance: random.Random
) -> Iterator[list[dict[str, str]]]:
    for _ in range(wanted):
        if chance.random() >= LONG_SHARE:
            yield chance.choice(pairs)["messages"]
            continue
        tokens = 60 * ((CONVERSATION_TOKENS - 90) / 60) ** chance.random()
        passage = chance.choice(passages)["text"][: int(tokens * CHARACTERS_PER_TOKEN)]
        opening = " ".join(passage.split()[:6])
        question = {"role": "user", "content": f"How does the passage go on that begins with: {opening}"}
        yield [question, {"role": "assistant", "content": passage}]


def _rows(folder: Path, split: str) -> Iterator[dict[str, Any]]:
    with (folder / f"{split}.jsonl").open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)

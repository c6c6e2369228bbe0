"""Problems a model is to answer by itself: tokenized, and dealt out to steps and ranks."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.domain.specs.grpo import GrpoSpec
from modelyard.workers.dataset import PreparedDataset
from modelyard.workers.recipe import BadData, Run
from modelyard.workers.training.completions import check_template, write_conversation
from modelyard.workers.training.conversations import load_tokenizer
from modelyard.workers.training.grouping import Course

VALIDATION_PROBLEMS = 32
"""Held-out problems per validation, the first ones and always the same."""


@dataclass(frozen=True)
class Problem:
    """What is asked, up to where the answer begins, and the answer that is known."""

    tokens: list[int]
    answer: str


@dataclass(frozen=True)
class Problems:
    """What there is to train on and to validate with."""

    tokenizer: Any
    train: list[Problem]
    heldout: list[Problem]
    dropped: int
    """Problems of both splits that leave no room for an answer."""
    course: Course

    def batch(self, step: int, round_: int, rank: int) -> list[Problem]:
        """Return what a rank answers in one round."""
        return [self.train[number] for number in self.course.batch(step, round_, rank)]


def read_problems(run: Run[GrpoSpec], dataset: PreparedDataset, model_folder: Path) -> Problems:
    """Tokenize both splits and plan the run. Raises `BadData` when no problem is left."""
    spec = run.spec
    tokenizer = load_tokenizer(spec, model_folder)
    check_template(tokenizer)
    room, dropped, splits = spec.sequence_length - spec.max_new_tokens, 0, []
    for split in ("train", "heldout"):
        found = tokenize_problems(run.keep_telling(dataset.rows(split)), tokenizer)
        kept = [problem for problem in found if len(problem.tokens) <= room]
        if not kept:
            raise BadData(
                f"no problem of the {split} split is left: all {len(found)} are longer than the {room} tokens that "
                f"sequence_length {spec.sequence_length} leaves beside max_new_tokens {spec.max_new_tokens}; "
                "raise the one or lower the other"
            )
        splits.append(kept)
        dropped += len(found) - len(kept)
    groups = [[number] for number in range(len(splits[0]))]
    course = Course(groups, spec.micro_batch_size, spec.rounds(run.world_size), run.world_size, spec.seed)
    return Problems(tokenizer, splits[0], splits[1], dropped, course)


def tokenize_problems(rows: Iterable[dict[str, Any]], tokenizer: Any) -> list[Problem]:
    """Render what is asked with the chat template, as it stands before an answer. Raises `BadData`."""
    rows = list(rows)
    texts = [write_conversation(row["messages"], tokenizer, add_generation_prompt=True) for row in rows]
    # The template writes its special tokens itself.
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    return [Problem(list(tokens), row["answer"]) for tokens, row in zip(encoded, rows, strict=True)]

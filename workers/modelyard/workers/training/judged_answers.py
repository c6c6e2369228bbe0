"""Answers that are judged two at a time: tokenized, and dealt out to steps and ranks."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.domain.specs.preference import PreferenceSpec
from modelyard.workers.dataset import Message, PreparedDataset
from modelyard.workers.recipe import BadData, Run
from modelyard.workers.training.completions import Example, check_template, encode_conversations
from modelyard.workers.training.conversations import load_tokenizer
from modelyard.workers.training.grouping import Course

VALIDATION_CASES = 32
"""Held-out cases per validation, the first ones and always the same."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Two answers that go through the model together."""

    first: Example
    """The better one of a pair, or the one that was rated."""
    second: Example
    """The worse one of a pair; or another row's answer after this prompt, by which one sees how far the model moved."""
    is_good: bool = True
    """Whether the first one is what the model should say."""


@dataclass
class CaseSet:
    """Tokenized cases of one split."""

    cases: list[Case] = field(default_factory=list)
    truncated: int = 0
    """Cases with an answer cut to the sequence length."""
    dropped: int = 0
    """Cases with an answer of which nothing is left, or two of which the same is left."""


@dataclass(frozen=True)
class JudgedAnswers:
    """What there is to train on and to validate with."""

    tokenizer: Any
    train: CaseSet
    heldout: CaseSet
    course: Course

    def batch(self, step: int, round_: int, rank: int) -> list[Case]:
        """Return what a rank sees in one forward pass."""
        return [self.train.cases[number] for number in self.course.batch(step, round_, rank)]


def read_judged_answers(run: Run[PreferenceSpec], dataset: PreparedDataset, model_folder: Path) -> JudgedAnswers:
    """Tokenize both splits and plan the run. Raises `BadData` when nothing is left to compare."""
    spec = run.spec
    tokenizer = load_tokenizer(spec, model_folder)
    check_template(tokenizer)
    train, heldout = (_read_split(run, dataset, split, tokenizer) for split in ("train", "heldout"))
    groups = [[number] for number in range(len(train.cases))]
    course = Course(groups, spec.micro_batch_size, spec.rounds(run.world_size), run.world_size, spec.seed)
    return JudgedAnswers(tokenizer, train, heldout, course)


def _read_split(run: Run[PreferenceSpec], dataset: PreparedDataset, split: str, tokenizer: Any) -> CaseSet:
    length = run.spec.sequence_length
    found = tokenize_cases(run.keep_telling(dataset.rows(split)), tokenizer, length)
    if not found.cases:
        raise BadData(
            f"nothing of the {split} split is left to compare: of {found.dropped} rows the answers are beyond or equal within "
            f"{length} tokens; raise sequence_length"
        )
    return found


def tokenize_cases(rows: Iterable[Row], tokenizer: Any, sequence_length: int) -> CaseSet:
    """Tokenize pairs or ratings."""
    result = CaseSet()
    rows = list(rows)
    conversations = list(pair_conversations(rows))
    encoded = encode_conversations(conversations, tokenizer, "last_answer")
    for row, first, second in zip(rows, encoded, encoded, strict=True):
        case = make_case(row, first, second, sequence_length)
        if case is None:
            result.dropped += 1
            continue
        result.truncated += max(len(first.tokens), len(second.tokens)) > sequence_length
        result.cases.append(case)
    return result


def make_case(row: Row, first: Example, second: Example, length: int) -> Case | None:
    """Return a row's answers cut to a length; None where nothing is left to compare."""
    case = Case(_cut(first, length), _cut(second, length), row.get("label", True))
    is_same = "label" not in row and np.array_equal(case.first.tokens, case.second.tokens)
    return None if is_same or min(case.first.predictions, case.second.predictions) == 0 else case


def pair_conversations(rows: list[Row]) -> Iterator[Row]:
    """Yield two whole conversations for every row: both answers, or the rated one and another row's to the same prompt."""
    if rows and "label" in rows[0]:
        for row, following in pairwise([*rows, rows[0]]):
            yield row
            yield {"messages": [*row["messages"][:-1], following["messages"][-1]]}
        return
    for row in rows:
        yield {"messages": [*row["messages"], _answer(row["chosen"])]}
        yield {"messages": [*row["messages"], _answer(row["rejected"])]}


def _answer(content: str) -> Message:
    return {"role": "assistant", "content": content}


def _cut(example: Example, length: int) -> Example:
    return Example(example.tokens[:length], example.learned[:length])

"""The conversations of a fine-tuning run: tokenized, grouped, and dealt out to steps and ranks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.domain.specs.finetuning import FinetuneSpec, TuningSpec
from modelyard.workers.dataset import PreparedDataset
from modelyard.workers.recipe import BadData, Run
from modelyard.workers.training.completions import CompletionSet, Example, tokenize_completions
from modelyard.workers.training.grouping import Course, Group, group_by_length, pack

VALIDATION_CONVERSATIONS = 32
"""Held-out conversations per validation, the first ones and always the same."""


@dataclass(frozen=True)
class Conversations:
    """What there is to train on and to validate with."""

    tokenizer: Any
    train: CompletionSet
    heldout: CompletionSet
    course: Course
    validation: list[Group]
    """Numbers of held-out conversations, one group per forward pass."""

    def batch(self, step: int, round_: int, rank: int) -> list[Example]:
        """Return what a rank sees in one forward pass."""
        return [self.train.examples[number] for number in self.course.batch(step, round_, rank)]

    def predictions(self, step: int) -> int:
        """Return how many tokens count in an optimizer step, over all its rounds and ranks."""
        return sum(self.train.examples[number].predictions for number in self.course.step(step))

    def count(self, step: int) -> int:
        """Return how many conversations are read in an optimizer step."""
        return len(self.course.step(step))

    def tokens(self, step: int) -> int:
        """Return how many tokens are read in an optimizer step, padding not counted."""
        return sum(len(self.train.examples[number].tokens) for number in self.course.step(step))


def read_conversations(run: Run[FinetuneSpec], dataset: PreparedDataset, model_folder: Path) -> Conversations:
    """Tokenize both splits and plan the run. Raises `BadData` when nothing is left to learn."""
    spec = run.spec
    tokenizer = load_tokenizer(spec, model_folder)
    train, heldout = (_tokenize(run, dataset, split, tokenizer) for split in ("train", "heldout"))
    course = Course(
        groups=_group(spec, train.examples),
        groups_per_batch=spec.micro_batch_size if spec.packing else 1,
        rounds=spec.rounds(run.world_size),
        ranks=run.world_size,
        seed=spec.seed,
    )
    return Conversations(tokenizer, train, heldout, course, _group(spec, heldout.examples[:VALIDATION_CONVERSATIONS]))


def load_tokenizer(spec: TuningSpec, folder: Path) -> Any:
    """Return the model's tokenizer, with the spec's chat template where it has one."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if spec.chat_template is not None:
        tokenizer.chat_template = spec.chat_template
    return tokenizer


def _tokenize(run: Run[FinetuneSpec], dataset: PreparedDataset, split: str, tokenizer: Any) -> CompletionSet:
    spec = run.spec
    found = tokenize_completions(run.keep_telling(dataset.rows(split)), tokenizer, spec.sequence_length, spec.loss_on)
    if not found.examples:
        raise BadData(
            f"no conversation of the {split} split is left: {found.dropped} have nothing to learn within "
            f"{spec.sequence_length} tokens; raise sequence_length"
        )
    return found


def _group(spec: FinetuneSpec, examples: list[Example]) -> list[Group]:
    lengths = [len(example.tokens) for example in examples]
    return pack(lengths, spec.sequence_length) if spec.packing else group_by_length(lengths, spec.micro_batch_size)

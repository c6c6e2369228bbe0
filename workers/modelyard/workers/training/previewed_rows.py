"""Rows of a dataset by the rules of the recipe that will read them, however long they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from modelyard.domain.specs.finetuning import FinetuneSpec
from modelyard.domain.specs.grpo import GrpoSpec
from modelyard.domain.specs.preference import PreferenceSpec
from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.workers.training.completions import Example, check_template, encode_conversations, tokenize_completions
from modelyard.workers.training.judged_answers import make_case, pair_conversations
from modelyard.workers.training.light_tokenizer import LightTokenizer
from modelyard.workers.training.problems import tokenize_problems
from modelyard.workers.training.rewards import Answer, score_answer, sum_rewards

Row = dict[str, Any]
ANY_LENGTH = 2**40


@dataclass(frozen=True)
class Sequence:
    """Token ids, and which of them are learned."""

    ids: list[int]
    learned: list[bool]

    @property
    def prompt_tokens(self) -> int:
        """Tokens before the first that is learned."""
        return self.learned.index(True) if True in self.learned else len(self.ids)


@dataclass(frozen=True)
class PreviewedRow:
    """A row as it goes through the model."""

    sequences: list[Sequence]
    """One; of a pair the better and the worse answer, of a rating the answer and the one it is measured against."""
    is_dropped: bool = False
    """Whether it is left out, for nothing to learn from is left."""
    label: bool | None = None
    """Of a rated answer, whether it is good."""
    sampled_tokens: int = 0
    """Of a problem, how many tokens its answers may have."""
    rewarded: dict[str, Any] | None = None
    """Of a problem, what its rewards say of an answer."""


def preview_rows(spec: Any, rows: list[Row], tokenizer: LightTokenizer, answer: str | None = None) -> Iterator[PreviewedRow]:
    """Tokenize rows whole. `answer`: what rewards are tried on instead of each problem's own. Raises `BadData`."""
    match spec:
        case PretrainSpec():
            return (PreviewedRow([_tokenize_text(row["text"], tokenizer)]) for row in rows)
        case FinetuneSpec():
            return (_preview_conversation(spec, row, tokenizer) for row in rows)
        case PreferenceSpec():
            return _preview_judged(spec, rows, tokenizer)
        case GrpoSpec():
            return _preview_problems(spec, rows, tokenizer, answer)
    raise AssertionError(f"{type(spec).__name__} reads no rows")


def _tokenize_text(text: str, tokenizer: LightTokenizer) -> Sequence:
    """A text ends with an end token, and all of it counts."""
    (ids,) = tokenizer([text], add_special_tokens=False)["input_ids"]
    ids = ids if tokenizer.eos_token_id is None else [*ids, tokenizer.eos_token_id]
    return _show(ids, [True] * len(ids))


def _preview_conversation(spec: FinetuneSpec, row: Row, tokenizer: LightTokenizer) -> PreviewedRow:
    examples = tokenize_completions([row], tokenizer, ANY_LENGTH, spec.loss_on).examples
    sequence = _show_example(examples[0]) if examples else Sequence([], [])
    return PreviewedRow([sequence], is_dropped=not any(sequence.learned[: spec.sequence_length]))


def _preview_judged(spec: PreferenceSpec, rows: list[Row], tokenizer: LightTokenizer) -> Iterator[PreviewedRow]:
    conversations = list(pair_conversations(rows))
    check_template(tokenizer)
    encoded = encode_conversations(conversations, tokenizer, "last_answer")
    for row, first, second in zip(rows, encoded, encoded, strict=True):
        is_dropped = make_case(row, first, second, spec.sequence_length) is None
        yield PreviewedRow([_show_example(first), _show_example(second)], is_dropped, row.get("label"))


def _preview_problems(spec: GrpoSpec, rows: list[Row], tokenizer: LightTokenizer, answer: str | None) -> Iterator[PreviewedRow]:
    check_template(tokenizer)
    room = spec.sequence_length - spec.max_new_tokens
    for problem in tokenize_problems(rows, tokenizer):
        sequence = Sequence(problem.tokens, [False] * len(problem.tokens))
        rewarded = _reward(spec, problem.answer if answer is None else answer, problem.answer, tokenizer)
        is_dropped = len(problem.tokens) > room
        yield PreviewedRow([sequence], is_dropped, sampled_tokens=spec.max_new_tokens, rewarded=rewarded)


def _reward(spec: GrpoSpec, text: str, known: str, tokenizer: LightTokenizer) -> dict[str, Any]:
    """What the rules say of an answer; its end counts as a token, as it does of one the model samples."""
    (ids,) = tokenizer([text], add_special_tokens=False)["input_ids"]
    answer = Answer(text, len(ids) + (tokenizer.eos_token_id is not None), known)
    points = [
        {"name": reward.name, "score": score_answer(reward, answer, spec.max_new_tokens), "weight": reward.weight}
        for reward in spec.rewards
    ]
    return {"answer": text, "known": known, "tokens": answer.tokens, "rewards": points, "total": sum_rewards(spec, answer)}


def _show_example(example: Example) -> Sequence:
    return _show(example.tokens.tolist(), example.learned.tolist())


def _show(ids: list[int], learned: list[bool]) -> Sequence:
    """No token comes before the first, so nobody predicts it."""
    return Sequence(ids, [False, *learned[1:]] if ids else [])

"""A chat model in memory: likelihood of given answers, and greedy answers, in batches.

Importing this imports torch: recipes do so after `configure_libraries`, and after they have read their data.
"""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from modelyard.workers.dataset import Message
from modelyard.workers.recipe import BadData

TOKENS_PER_BATCH = 1024
"""Padded tokens of one forward pass: bounds the logits, 200 MB in fp32 with a vocabulary of 49,152."""
ANSWERS_PER_BATCH = 8


@dataclass(frozen=True)
class Likelihood:
    """Negative log-likelihood of one answer, in nats, summed over its tokens."""

    total: float
    tokens: int
    truncated: bool


@dataclass
class LanguageModel:
    """A causal language model with its tokenizer."""

    model: Any
    tokenizer: Any
    precision: str

    @property
    def context_tokens(self) -> int:
        """Tokens the model was built for, prompt and answer together."""
        return int(self.model.config.get_text_config().max_position_embeddings)

    @property
    def end_tokens(self) -> list[int]:
        """Tokens that end an answer."""
        ends = self.model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        return [ends] if isinstance(ends, int) else list(ends or [])

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of a conversation up to where the assistant starts to answer. Raises `BadData` without a chat template."""
        if self.tokenizer.chat_template is None:
            raise BadData("the model's tokenizer has no chat template: fine-tune it on conversations, or import a chat model")
        encoded = self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=True)
        return list(encoded["input_ids"])

    def encode_answer(self, answer: str) -> list[int]:
        """Tokens of an answer and of its end: a model that does not know when to stop answers badly."""
        tokens = list(self.tokenizer(answer, add_special_tokens=False)["input_ids"])
        end = self.tokenizer.eos_token_id
        return tokens if end is None else [*tokens, end]

    def score_answers(self, prompts: Sequence[Sequence[Message]], answers: Sequence[str]) -> Iterator[tuple[int, Likelihood]]:
        """Yield (index, likelihood) of each answer given its prompt, batch by batch, the shortest first.

        Items longer than the context lose the beginning of their prompt, and say so in `truncated`.
        """
        items = [self._fit(self.encode_prompt(p), self.encode_answer(a)) for p, a in zip(prompts, answers, strict=True)]
        for batch in _batches([len(prompt) + len(answer) for prompt, answer, _ in items]):
            totals = self._negative_log_likelihoods([items[index][:2] for index in batch])
            for index, total in zip(batch, totals, strict=True):
                yield index, Likelihood(total, len(items[index][1]), items[index][2])

    @torch.inference_mode()
    def answer_greedily(self, prompts: Sequence[Sequence[Message]], max_new_tokens: int) -> Iterator[tuple[int, str]]:
        """Yield (index, answer) of the most likely tokens one after the other, at most `max_new_tokens`, batch by batch."""
        room = self.context_tokens - max_new_tokens
        if room < 1:
            raise BadData(f"max_new_tokens {max_new_tokens} leaves no room in a context of {self.context_tokens} tokens")
        encoded = [self.encode_prompt(prompt)[-room:] for prompt in prompts]
        order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
        for start in range(0, len(order), ANSWERS_PER_BATCH):
            batch = order[start : start + ANSWERS_PER_BATCH]
            yield from zip(batch, self._generate([encoded[index] for index in batch], max_new_tokens), strict=True)

    def _fit(self, prompt: list[int], answer: list[int]) -> tuple[list[int], list[int], bool]:
        """The newest part of the prompt that fits; at least one token of it, for the first prediction."""
        kept = answer[: self.context_tokens - 1]
        room = self.context_tokens - len(kept)
        return prompt[-room:], kept, len(prompt) > room or len(kept) < len(answer)

    @torch.inference_mode()
    def _negative_log_likelihoods(self, items: list[tuple[list[int], list[int]]]) -> list[float]:
        tokens, mask = self._pad([prompt + answer for prompt, answer in items], side="right")  # (batch, sequence)
        logits = self.model(input_ids=tokens, attention_mask=mask, use_cache=False).logits  # (batch, sequence, vocabulary)
        totals = []
        for row, (prompt, answer) in enumerate(items):
            first, last = len(prompt), len(prompt) + len(answer)
            # The logits at a position predict the next token.
            predicted = logits[row, first - 1 : last - 1].float()
            totals.append(float(torch.nn.functional.cross_entropy(predicted, tokens[row, first:last], reduction="sum")))
        return totals

    def _generate(self, prompts: list[list[int]], max_new_tokens: int) -> list[str]:
        # Padding goes to the left, so that every row's next token stands at the same place.
        tokens, mask = self._pad(prompts, side="left")
        written = self.model.generate(
            input_ids=tokens,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=self._pad_token(),
            # Set in many models' defaults; greedy search would warn that it ignores them.
            temperature=None,
            top_p=None,
            top_k=None,
        )
        return [
            str(text).strip() for text in self.tokenizer.batch_decode(written[:, tokens.shape[1] :], skip_special_tokens=True)
        ]

    def _pad(self, rows: list[list[int]], side: str) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(len(row) for row in rows)
        tokens = torch.full((len(rows), width), self._pad_token(), dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for number, row in enumerate(rows):
            start = width - len(row) if side == "left" else 0
            tokens[number, start : start + len(row)] = torch.tensor(row)
            mask[number, start : start + len(row)] = 1
        return tokens.to(self.model.device), mask.to(self.model.device)

    def _pad_token(self) -> int:
        # Which token it is does not matter: the mask hides it.
        return int(self.tokenizer.pad_token_id or 0)


def load_language_model(folder: Path, device: str = "cpu", precision: str = "auto") -> LanguageModel:
    """Load a folder written by `save_pretrained`. Raises `BadData` if it is not one.

    `auto` precision is fp32 on a CPU (bf16 is slower there without AMX, and ties many logits) and bf16 on a GPU.
    """
    chosen = ("fp32" if device == "cpu" else "bf16") if precision == "auto" else precision
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        raise BadData(f"{folder.name} is a LoRA adapter without its base model; take the `model` output of the fine-tuning job")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[chosen]
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise BadData(f"{folder.name} cannot be loaded as a causal language model: {error}") from error
    return LanguageModel(model.to(device).eval(), tokenizer, chosen)


def release(language_model: LanguageModel) -> None:
    """Free the weights, so that a second model finds room where only one fits."""
    language_model.model = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Group indices of similar length so that no padded batch exceeds `TOKENS_PER_BATCH`, unless one item does."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[index] * (len(batch) + 1) > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch

"""The corpus of a pre-training run: a tokenizer trained on it, and its token ids where every rank can read them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.workers.dataset import PreparedDataset
from modelyard.workers.recipe import BadData, Run
from modelyard.workers.training.bpe import train_bpe, wrap_tokenizer
from modelyard.workers.training.distributed import barrier, is_first_on_machine, share
from modelyard.workers.training.token_store import TokenStore, write_tokens

TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True)
class Corpus:
    """What there is to train on and to validate with."""

    tokenizer: Any
    train: TokenStore
    heldout: TokenStore


def prepare_corpus(run: Run[PretrainSpec], dataset: PreparedDataset) -> Corpus:
    """Train the tokenizer on rank 0 (or take the checkpoint's) and pack both splits. All ranks call this together.

    Raises `BadData` when a split does not fill one sequence.
    """
    run.progress(0.0, "training the tokenizer")
    tokenizer = wrap_tokenizer(share(_serialized_tokenizer(run, dataset)), run.spec.sequence_length)

    run.progress(0.0, "packing tokens")
    folder = run.folder / "tokens"
    folder.mkdir(parents=True, exist_ok=True)
    if is_first_on_machine():
        for split in ("train", "heldout"):
            write_tokens(folder / f"{split}.bin", run.keep_telling(_texts(dataset, split)), tokenizer)
    barrier()
    stores = [TokenStore(folder / f"{split}.bin", run.spec.sequence_length) for split in ("train", "heldout")]
    for split, store in zip(("train", "heldout"), stores, strict=True):
        if not len(store):
            raise BadData(
                f"the {split} split has {len(store.tokens)} tokens, fewer than one sequence of "
                f"{run.spec.sequence_length}; prepare more text or lower sequence_length"
            )
    return Corpus(tokenizer, *stores)


def _serialized_tokenizer(run: Run[PretrainSpec], dataset: PreparedDataset) -> str | None:
    if run.rank != 0:
        return None
    if run.resume_from is not None:
        return (run.resume_from / TOKENIZER_FILE).read_text(encoding="utf-8")
    return train_bpe(run.keep_telling(_texts(dataset, "train")), run.spec.vocabulary_size)


def _texts(dataset: PreparedDataset, split: str) -> Iterator[str]:
    return (row["text"] for row in dataset.rows(split))

"""The corpus of a pre-training run: a tokenizer, and its token ids where every rank of a machine can read them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.domain.specs.pretraining import PretrainSpec
from modelyard.workers.dataset import PreparedDataset
from modelyard.workers.recipe import BadData, Run
from modelyard.workers.training.bpe import train_bpe, wrap_tokenizer
from modelyard.workers.training.distributed import barrier, is_first_on_machine, share
from modelyard.workers.training.token_cache import find_token_folder
from modelyard.workers.training.token_store import TokenStore
from modelyard.workers.training.token_writer import write_tokens

TOKENIZER_FILE = "tokenizer.json"
SPLITS = ("train", "heldout")


@dataclass(frozen=True)
class Corpus:
    """What there is to train on and to validate with."""

    tokenizer: Any
    train: TokenStore
    heldout: TokenStore


def prepare_corpus(run: Run[PretrainSpec], dataset: PreparedDataset) -> Corpus:
    """Get the tokenizer, and both splits in tokens. All ranks call this together.

    Raises `BadData` when a split does not fill one sequence, or the tokenizer that is to be reused does not end texts.
    """
    tokenizer = _find_tokenizer(run, dataset)
    run.progress(0.0, "packing tokens")
    folder = find_token_folder(run.folder, dataset.folder, tokenizer)
    if is_first_on_machine():
        for split in SPLITS:
            write_tokens(folder / split, run.keep_telling(_texts(dataset, split)), tokenizer)
    barrier()
    stores = [TokenStore(folder / split, run.spec.sequence_length) for split in SPLITS]
    for split, store in zip(SPLITS, stores, strict=True):
        if not len(store):
            raise BadData(
                f"the {split} split has {store.token_count} tokens, but one sequence of {run.spec.sequence_length} and the token "
                "after it are the least; prepare more text or lower sequence_length"
            )
    return Corpus(tokenizer, *stores)


def _find_tokenizer(run: Run[PretrainSpec], dataset: PreparedDataset) -> Any:
    owner = "model" if run.spec.model else "tokenizer" if run.spec.tokenizer else None
    if owner is not None:
        return _reuse_tokenizer(run.input(owner).path, run.spec.sequence_length)
    run.progress(0.0, "training the tokenizer")
    return wrap_tokenizer(share(_serialized_tokenizer(run, dataset)), run.spec.sequence_length)


def _reuse_tokenizer(folder: Path, sequence_length: int) -> Any:
    """The tokenizer of a model, as fast as one trained here. Raises `BadData`."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise BadData(f"the tokenizer of {folder.name} cannot be loaded: {error}") from error
    if not getattr(tokenizer, "is_fast", False) or tokenizer.eos_token_id is None:
        raise BadData(f"the tokenizer of {folder.name} has no tokenizer.json or no end token; take that of another model")
    tokenizer.model_max_length = max(sequence_length, min(tokenizer.model_max_length, 2**30))
    return tokenizer


def _serialized_tokenizer(run: Run[PretrainSpec], dataset: PreparedDataset) -> str | None:
    if run.rank != 0:
        return None
    if run.resume_from is not None:
        return (run.resume_from / TOKENIZER_FILE).read_text(encoding="utf-8")
    return train_bpe(run.keep_telling(_texts(dataset, "train")), run.spec.tokens_to_train())


def _texts(dataset: PreparedDataset, split: str) -> Iterator[str]:
    return (row["text"] for row in dataset.rows(split))

"""Every kind of training over HTTP with what cannot work: refused at submit, with the numbers and a way out."""

from typing import Any

import pytest
from factories import spec_of
from running_api import Api
from sqlmodel import select

from modelyard.domain.jobs.tables import Job

GIB = 2**30
DATASETS = {"pretrain": "texts", "finetune": "chats", "preference": "pairs", "grpo": "problems"}
SCHEMAS = {"texts": "text", "chats": "chat", "pairs": "preference", "problems": "problems"}
MODELS: dict[str, dict[str, Any]] = {
    "base": {"vocabulary_size": 1000, "tokenizer_size": 1000, "context_length": 512, "parameters": 10**6},
    "large": {"vocabulary_size": 1000, "tokenizer_size": 1000, "context_length": 512, "parameters": 3 * GIB},
    "torn": {"vocabulary_size": 1000, "tokenizer_size": 1001, "context_length": 512, "parameters": 10**6},
    "half": {"role": "adapter"},
}
Case = tuple[dict[str, Any], str, str]
"""Changes to a spec that would be accepted, the field that is named, and words of the answer."""
GPU_ONLY = "needs a GPU, and resources.accelerator is cpu"
OF_ALL: list[Case] = [
    ({"sequence_length": 513, "model": "base"}, "spec.sequence_length", "more than the 512 the model base reads; set 512"),
    ({"model": "torn"}, "spec.model", "the tokenizer of torn makes 1001 tokens, and the model has 1000 embeddings; import"),
    ({"model": "half"}, "spec.model", "half is an adapter without its base; take the `model` output"),
    ({"model": "large"}, "spec.precision", "12.0 GiB of weights per rank, and no machine that serves the stage has"),
    ({"model": "nobody"}, "spec.model", "nobody"),
    ({"dataset": "raw"}, "spec.dataset", "raw is an upload that was not prepared; run a `prepare` job"),
    ({"dataset": "other"}, "spec.dataset", "other has schema `rated`, but"),
    ({"optimizer": {"name": "adamax"}}, "spec.optimizer.name", "'adamw', 'adafactor', 'muon' or 'sgd'"),
    ({"deepspeed": {"override": {"optimizer": {"type": "Adan"}}}}, "spec.deepspeed.override", "'Adan' is no optimizer; take"),
    ({"optimizer": {"name": "muon"}, "deepspeed": {"zero_stage": 2}}, "spec", "zero_stage 2 cuts up; set zero_stage 0"),
    ({"micro_batch_size": 0}, "spec.micro_batch_size", "greater than or equal to 1"),
    ({"deepspeed": {"override": {"train_batch_size": 6}}}, "spec", "follows from the spec's own fields; give micro_batch_size"),
    ({"precision": "fp16"}, "spec.precision", GPU_ONLY),
    ({"global_batch_size": 12, "micro_batch_size": 8}, "spec", "global_batch_size 12 is not a multiple of micro_batch_size 8"),
    ({"deepspeed": {"offload": "parameters"}}, "spec.deepspeed", "offload `parameters` needs zero_stage 3"),
]  # fmt: skip
OF_TUNING: list[Case] = [
    ({"method": "qlora", "sequence_length": 128}, "spec.method", GPU_ONLY),
]
OF_KIND: dict[str, list[Case]] = {
    "pretrain": [
        ({"sequence_length": 1024}, "spec.sequence_length", "the heldout split of texts has 900 bytes of text, at most 920"),
        ({"config": {"model_type": "llama", "vocab_size": 999}, "tokenizer": "base"}, "spec.tokenizer",
         "the tokenizer of base makes 1000 tokens, and the model has 999 embeddings; leave config.vocab_size out"),
        ({"config": {"model_type": "llama", "vocab_size": 999}, "vocabulary_size": 1000}, "spec",
         "vocabulary_size 1000 is more than config.vocab_size 999"),
        ({"config": {"model_type": "llama", "max_position_embeddings": 64}}, "spec.sequence_length", "more than the 64"),
        ({"config": {"model_type": "llama", "num_attention_heads": "four"}, "deepspeed": {"sequence_parallel_size": 2}},
         "spec.config", "'four' is no size"),
        ({"config": {"model_type": "llama", "vocab_size": "many"}}, "spec.config", "'many' is no size"),
        ({"tokenizer": "half"}, "spec.tokenizer", "half is an adapter without its base"),
        ({"preset": "8B"}, "spec.precision", "no machine that serves the stage has more than 8.0 GiB"),
    ],
    "finetune": [],
    "preference": [
        ({"method": "full"}, "spec", "dpo compares with the base, which is gone when all weights learn; choose lora"),
        ({"objective": "kto"}, "spec.dataset", "pairs has schema `preference`, but preference needs `rated`"),
        ({"objective": "orpo", "label_smoothing": 0.1}, "spec", "label_smoothing is an option of objective dpo only"),
    ],
    "grpo": [
        ({"max_new_tokens": 256}, "spec", "max_new_tokens 256 leaves no room for a problem within sequence_length 256"),
        ({"deepspeed": {"zero_stage": 3}}, "spec", "answers are sampled with all weights on every rank; choose 0, 1, 2"),
        ({"rewards": []}, "spec.rewards", "at least 1 item"),
        ({"rewards": [{"name": "regex", "pattern": "("}]}, "spec.rewards", "is no pattern"),
    ],
}  # fmt: skip
ON_CPUS = {"accelerator": "cpu"}


@pytest.fixture
def stocked(api: Api) -> Api:
    """An API that knows models, datasets and one machine of 8 GiB."""
    factory = api.factory
    for name, schema in SCHEMAS.items():
        sizes = {"bytes_of_text": {"train": 90_000, "heldout": 900}, "rows": {"train": 90, "heldout": 10}}
        factory.registered("dataset", name, schema=schema, **sizes)
    factory.registered("dataset", "other", schema="rated")
    factory.registered("dataset", "raw", role="upload", format="jsonl")
    for name, details in MODELS.items():
        factory.registered("model", name, **details)
    factory.worker(cpu=2, host_memory_bytes=8 * GIB)
    return api


def fitting(kind: str, changes: dict[str, Any]) -> dict[str, Any]:
    spec = spec_of(kind, **{"dataset": DATASETS[kind], **changes})
    return {"spec": spec, "resources": ON_CPUS}


@pytest.mark.parametrize("kind", sorted(DATASETS))
class TestRefuse:
    def test_at_submit_and_in_a_plan(self, stocked: Api, check_problem: Any, kind: str) -> None:
        cases = OF_ALL + OF_KIND[kind] + (OF_TUNING if kind != "pretrain" else [])
        for changes, field, words in cases:
            answers = [stocked.client.post("/v1/jobs", json=fitting(kind, changes))]
            if "no machine" not in words:  # a plan says what would fit instead
                answers.append(stocked.client.post("/v1/jobs/plan", json=fitting(kind, changes)))
            for answer in answers:
                assert answer.status_code == 422, (changes, answer.text)
                said = answer.json()
                assert words in str(said), (changes, said)
                assert any(each["field"].startswith(field) for each in said["errors"]), (changes, said)
        assert stocked.factory.find(select(Job)) == []

    def test_what_is_right_at_the_edge_is_taken(self, stocked: Api, kind: str) -> None:
        edge: dict[str, Any] = {"sequence_length": 512, "micro_batch_size": 4, "model": "base"}
        edge["deepspeed"] = {"zero_stage": 1, "override": {"optimizer": {"type": "NAdam"}}}
        body = {**fitting(kind, edge), "resources": {**ON_CPUS, "slots": 2}}
        answer = stocked.client.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text

"""Rows of a job's data as its model would see them, over HTTP."""

import json
from pathlib import Path
from typing import Any

import pytest
from factories import spec_of, write
from running_api import Api
from sqlmodel import select

from modelyard.api.planning import tokenization
from modelyard.domain.jobs.tables import Job
from modelyard.domain.registry.repository import Made, register

TEMPLATE = (
    "{% for message in messages %}[{{ message.role }}]{{ message.content }}[end]{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
CHATS = [
    {"messages": [{"role": "user", "content": "say " + "x" * size}, {"role": "assistant", "content": "yes"}]}
    for size in (1, 2, 90)
]


def put(api: Api, type_: str, name: str, folder: Path, **details: Any) -> None:
    """Register a folder as an artifact."""
    key = f"{type_}/{name}"
    manifest = api.app.state.platform.store.put(folder, key)
    made = Made(type_, name, key, manifest["sha256"], manifest["bytes"], details)
    write(api.factory.database, register, api.factory.project_id, made)


def put_rows(api: Api, folder: Path, rows: list[dict[str, Any]], schema: str = "chat") -> None:
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    put(api, "dataset", "corpus", folder, schema=schema, rows={"train": len(rows), "heldout": 0})


def put_model(api: Api, folder: Path, template: str = TEMPLATE) -> None:
    """A model whose tokens are bytes and three marks."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {character: place for place, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in ("[end]", "[user]", "[assistant]")])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "[end]"}))
    (folder / "chat_template.jinja").write_text(template)
    put(api, "model", "base", folder)


def ask(api: Api, kind: str, query: str = "", **spec: Any) -> Any:
    return api.client.post(f"/v1/jobs/preview{query}", json={"spec": spec_of(kind, **spec)})


class TestPreview:
    def test_a_conversation(self, api_on_both: Api, tmp_path: Path) -> None:
        put_rows(api_on_both, tmp_path / "rows", CHATS)
        put_model(api_on_both, tmp_path / "model")
        body = ask(api_on_both, "finetune", sequence_length=16).json()
        assert api_on_both.factory.find(select(Job)) == []
        assert (body["dataset"], body["tokenizer"], body["rows_in_all"]) == ("corpus@1", "base@1", 3)
        first, second, third = body["data"]
        assert "".join(token["text"] for token in first["tokens"]) == "[user]say x[end][assistant]yes[end]"
        assert [token["text"] for token in first["tokens"] if token["learned"]] == ["y", "e", "s", "[end]"]
        assert (first["number"], first["count"], first["prompt_tokens"], first["beyond"], first["dropped"]) == (
            1,
            12,
            8,
            0,
            False,
        )
        assert second["count"] == 13
        assert (third["count"], third["beyond"], third["dropped"], len(third["tokens"])) == (101, 85, True, 16)

    def test_text_with_a_tokenizer_of_another_model(self, api: Api, tmp_path: Path, check_problem: Any) -> None:
        put_rows(api, tmp_path / "rows", [{"text": "ab"}, {"text": "x" * 40}], schema="text")
        put_model(api, tmp_path / "model")
        check_problem(ask(api, "pretrain"), 422, "no_tokenizer", "tokenizer")
        check_problem(ask(api, "pretrain", "?tokenizer=nothing"), 404, "not_found")
        rows = ask(api, "pretrain", "?tokenizer=base&rows=2", sequence_length=16).json()["data"]
        assert [(token["text"], token["learned"]) for token in rows[0]["tokens"]] == [("a", False), ("b", True), ("[end]", True)]
        assert (rows[1]["count"], rows[1]["beyond"], rows[1]["dropped"]) == (41, 25, False)

    def test_rows_are_spread_over_the_split(self, api: Api, tmp_path: Path) -> None:
        put_rows(api, tmp_path / "rows", CHATS[:1] * 100)
        put_model(api, tmp_path / "model")
        assert [row["number"] for row in ask(api, "finetune", "?rows=4").json()["data"]] == [1, 26, 51, 76]

    @pytest.mark.parametrize(
        ("template", "reason"), [("{{ raise_exception('not like this') }}", "not like this"), ("", "no chat template")]
    )
    def test_templates_that_refuse(self, api: Api, tmp_path: Path, check_problem: Any, template: str, reason: str) -> None:
        put_rows(api, tmp_path / "rows", CHATS)
        put_model(api, tmp_path / "model", template)
        assert reason in check_problem(ask(api, "finetune"), 422, "cannot_tokenize", "spec.model")["detail"]

    def test_a_template_of_the_job_that_refuses(self, api: Api, tmp_path: Path, check_problem: Any) -> None:
        put_rows(api, tmp_path / "rows", CHATS)
        put_model(api, tmp_path / "model")
        refused = ask(api, "finetune", chat_template="{{ raise_exception('not like this') }}")
        assert "not like this" in check_problem(refused, 422, "cannot_tokenize", "spec.chat_template")["detail"]

    def test_a_template_that_never_ends_is_ended(
        self, api: Api, tmp_path: Path, check_problem: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tokenization, "SECONDS", 3.0)
        put_rows(api, tmp_path / "rows", CHATS)
        loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
        put_model(api, tmp_path / "model", loop)
        assert "longer than 3 s" in check_problem(ask(api, "finetune"), 422, "cannot_tokenize")["detail"]

    def test_what_cannot_be_looked_at(self, api: Api, tmp_path: Path, check_problem: Any) -> None:
        put_model(api, tmp_path / "model")
        api.factory.registered("dataset", "corpus")
        check_problem(ask(api, "finetune"), 422, "dataset_not_prepared", "spec.dataset")
        check_problem(ask(api, "prepare"), 422, "nothing_to_preview", "spec.kind")
        check_problem(ask(api, "finetune", dataset="nothing"), 422, "unknown_reference", "spec.dataset")
        put_rows(api, tmp_path / "rows", CHATS)
        check_problem(ask(api, "finetune", "?answer=4"), 422, "no_rewards", "answer")


QUESTION = [{"role": "user", "content": "say x"}]
PAIRS = [{"messages": QUESTION, "chosen": chosen, "rejected": rejected} for chosen, rejected in (("yes", "no"), ("y" * 90, "n"))]
RATINGS = [{**CHATS[0], "label": False}, {**CHATS[1], "label": True}]
PROBLEMS = [{"messages": [{"role": "user", "content": "x" * size}], "answer": "is #### 4"} for size in (1, 90)]
REWARDS = [
    {"name": "exact_answer", "weight": 2},
    {"name": "length_penalty", "free_tokens": 4},
    {"name": "contains", "text": "is"},
]


def text_of(sequence: dict[str, Any], *, learned: bool) -> str:
    return "".join(token["text"] for token in sequence["tokens"] if token["learned"] is learned)


class TestPreviewJudged:
    def test_a_pair(self, api: Api, tmp_path: Path) -> None:
        put_rows(api, tmp_path / "rows", PAIRS, schema="preference")
        put_model(api, tmp_path / "model")
        pair, long = ask(api, "preference", sequence_length=16).json()["data"]
        for sequence, answer in ((pair, "yes[end]"), (pair["second"], "no[end]")):
            assert (text_of(sequence, learned=False), text_of(sequence, learned=True)) == ("[user]say x[end][assistant]", answer)
        assert (pair["count"], pair["second"]["count"], pair["dropped"], pair["label"]) == (12, 11, False, None)
        assert (long["beyond"], long["second"]["beyond"], len(long["tokens"]), long["dropped"]) == (83, 0, 16, False)

    def test_a_pair_that_is_the_same_within_the_sequence_is_left_out(self, api: Api, tmp_path: Path) -> None:
        put_rows(api, tmp_path / "rows", [{"messages": QUESTION, "chosen": "y" * 60, "rejected": "y" * 70}], schema="preference")
        put_model(api, tmp_path / "model")
        assert ask(api, "preference", sequence_length=32).json()["data"][0]["dropped"] is True
        assert ask(api, "preference", sequence_length=128).json()["data"][0]["dropped"] is False

    def test_ratings(self, api: Api, tmp_path: Path) -> None:
        put_rows(api, tmp_path / "rows", RATINGS, schema="rated")
        put_model(api, tmp_path / "model")
        rows = ask(api, "preference", objective="kto", sequence_length=64).json()["data"]
        assert [(row["label"], row["second"], text_of(row, learned=True)) for row in rows] == [
            (False, None, "yes[end]"),
            (True, None, "yes[end]"),
        ]

    @pytest.mark.parametrize(("answer", "scores", "total"), [(None, [1.0, -0.75, 1.0], 2.25), ("5", [0.0, 0.0, 0.0], 0.0)])
    def test_a_problem_and_what_an_answer_is_worth(
        self, api: Api, tmp_path: Path, answer: str | None, scores: list[float], total: float
    ) -> None:
        put_rows(api, tmp_path / "rows", PROBLEMS, schema="problems")
        put_model(api, tmp_path / "model")
        query = f"?answer={answer}" if answer else ""
        body = ask(api, "grpo", query, rewards=REWARDS, sequence_length=64, max_new_tokens=12).json()
        short, long = body["data"]
        assert (text_of(short, learned=False), text_of(short, learned=True)) == ("[user]x[end][assistant]", "")
        assert (short["dropped"], long["dropped"], long["beyond"]) == (False, True, 93 - (64 - 12))
        rewarded = short["rewarded"]
        assert [each["score"] for each in rewarded["rewards"]] == scores
        assert (rewarded["total"], rewarded["known"], rewarded["answer"]) == (total, "is #### 4", answer or "is #### 4")


SIZES = {
    "model_type": "llama", "vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # fmt: skip


class TestPlanOfData:
    def test_says_what_is_cut_off(self, api: Api, tmp_path: Path) -> None:
        put_rows(api, tmp_path / "rows", CHATS)
        put_model(api, tmp_path / "model")
        (tmp_path / "model" / "config.json").write_text(json.dumps(SIZES))
        put(api, "model", "sized", tmp_path / "model")
        spec = spec_of("finetune", model="sized", sequence_length=64, steps=3, micro_batch_size=2)
        tokens = api.client.post("/v1/jobs/plan", json={"spec": spec}).json()["tokens"]
        assert tokens == {
            "per_step": 128, "total": 384, "dataset": 126, "epochs": pytest.approx(384 / 25), "truncated_share": 0.0,
            "dropped_share": pytest.approx(1 / 3), "longest": 101, "learned_share": 8 / 25, "basis": "from all rows",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("kind", "rows", "spec", "expected"),
        [
            # Prompts of 8 tokens; answers of 4, 3, 91 and 2.
            (
                "preference",
                PAIRS,
                {"micro_batch_size": 2},
                {"dataset": 132, "truncated_share": 0.5, "per_step": 12 + 11 + 32 + 10},
            ),
            (
                "grpo",
                PROBLEMS,
                {"rewards": REWARDS, "group_size": 3, "max_new_tokens": 12},
                {"dropped_share": 0.5, "per_step": 3 * 16},
            ),
        ],
    )
    def test_of_answers_that_are_judged(self, api: Api, tmp_path: Path, kind: str, rows: Any, spec: Any, expected: Any) -> None:
        schema = {"preference": "preference", "grpo": "problems"}[kind]
        put_rows(api, tmp_path / "rows", rows, schema=schema)
        put_model(api, tmp_path / "model")
        (tmp_path / "model" / "config.json").write_text(json.dumps(SIZES))
        put(api, "model", "sized", tmp_path / "model")
        asked = spec_of(kind, model="sized", sequence_length=32, steps=3, **spec)
        answer = api.client.post("/v1/jobs/plan", json={"spec": asked}).json()
        assert {name: answer["tokens"][name] for name in expected} == expected
        assert answer["tokens"]["total"] == 3 * expected["per_step"]
        memory = answer["memory"]
        assert memory["rank_bytes"] == sum(piece["bytes"] for piece in memory["pieces"])
        assert memory["moment"] in {"learning", "merging"}  # of a model this small the two are close

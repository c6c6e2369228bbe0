"""Preferences, ratings and problems: every usual shape becomes one, and what cannot be used is named or counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from modelyard.workers.data.judgements import to_preference, to_problem, to_rating
from modelyard.workers.data.records import Record
from modelyard.workers.recipe import EXIT_BAD_DATA, BadData

ASKED = [{"role": "user", "content": "q"}]


def answered(text: str) -> list[dict[str, str]]:
    return [*ASKED, {"role": "assistant", "content": text}]


def record(values: dict[str, Any]) -> Record:
    return Record(values, "data.jsonl", 3)


@pytest.mark.parametrize(
    "values",
    [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"messages": ASKED, "chosen": " good ", "rejected": "bad"},
        {"prompt": ASKED, "chosen": answered("good")[1:], "rejected": answered("bad")[1:]},
        {"prompt": "q", "chosen": answered("good"), "rejected": answered("bad")},
        {"chosen": answered("good"), "rejected": answered("bad")},
    ],
)
def test_every_shape_of_a_preference(values: dict[str, Any]) -> None:
    assert to_preference(record(values)) == {"messages": ASKED, "chosen": "good", "rejected": "bad"}


@pytest.mark.parametrize(("label", "expected"), [(True, True), (0, False), ("True", True), ("0", False)])
def test_every_shape_of_a_rating(label: Any, expected: bool) -> None:
    row = {"messages": answered("a"), "label": expected}
    assert to_rating(record({"prompt": "q", "completion": "a", "label": label})) == row
    assert to_rating(record({"messages": answered("a"), "label": label})) == row


@pytest.mark.parametrize(("answer", "expected"), [("4", "4"), (4, "4"), (0.5, "0.5"), (" four ", "four")])
@pytest.mark.parametrize("asked", [{"prompt": "q"}, {"question": "q"}, {"messages": ASKED}])
def test_every_shape_of_a_problem(asked: dict[str, Any], answer: Any, expected: str) -> None:
    assert to_problem(record({**asked, "answer": answer})) == {"messages": ASKED, "answer": expected}


@pytest.mark.parametrize(
    ("read", "values", "says"),
    [
        (to_preference, {"prompt": "q", "chosen": "a"}, "a preference needs `rejected`; found `prompt`, `chosen`"),
        (to_preference, {"chosen": "a", "rejected": "b"}, "nothing is asked: no `messages`, `prompt` or `question`"),
        (to_preference, {"chosen": answered("a"), "rejected": [*ASKED, *answered("b")]}, "their earlier turns differ"),
        (to_preference, {"prompt": "q", "chosen": ASKED, "rejected": "b"}, "`chosen` must end with an answer"),
        (to_preference, {"messages": answered("a"), "chosen": "a", "rejected": "b"}, "must end with the user's turn"),
        (to_preference, {"prompt": "q", "chosen": 1, "rejected": "b"}, "`chosen` must be text, is int"),
        (to_rating, {"prompt": "q", "completion": "a"}, "a rating needs `label`"),
        (to_rating, {"prompt": "q", "completion": "a", "label": "good"}, "`label` must be true or false, is 'good'"),
        (to_problem, {"prompt": "q"}, "a problem needs `answer`"),
        (to_problem, {"prompt": "q", "answer": True}, "`answer` must be text, is bool"),
    ],
)
def test_bad_rows_are_named(read: Any, values: dict[str, Any], says: str) -> None:
    with pytest.raises(BadData) as error:
        read(record(values))
    assert str(error.value).startswith("data.jsonl, line 3: ")
    assert says in str(error.value)


def upload(folder: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    folder.mkdir()
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "dataset.json").write_text('{"format": "jsonl"}')
    spec = {"kind": "prepare", "name": "p", "schema": "preference", "sources": [{"dataset": "d"}], "heldout_fraction": 0.25}
    return {"spec": spec, "inputs": {"sources.0.dataset": {"path": str(folder)}}}


def test_pairs_of_one_prompt_are_never_divided_and_equal_answers_are_counted(recipe: Any, tmp_path: Path) -> None:
    pairs = [{"prompt": f"q {n // 2}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(16)]
    same = [{"prompt": "q 1", "chosen": "so", "rejected": "so "}]
    code, log = recipe.run("data.recipes.prepare", upload(tmp_path / "upload", [*pairs, pairs[3], *same]))
    assert code == 0, log
    folder = recipe.folder / "outputs" / "dataset"
    train, heldout = ([json.loads(line) for line in (folder / f"{split}.jsonl").open()] for split in ("train", "heldout"))
    assert (len(train), len(heldout)) == (12, 4)
    prompts = [{row["messages"][0]["content"] for row in rows} for rows in (train, heldout)]
    assert not prompts[0] & prompts[1]
    report = json.loads((folder / "report.json").read_text())
    assert (report["duplicates"], report["dropped"]) == (1, {"chosen and rejected are the same": 1})
    description = json.loads((folder / "dataset.json").read_text())
    assert (description["schema"], description["columns"]) == ("preference", ["messages", "chosen", "rejected"])


def test_nothing_left_is_refused(recipe: Any, tmp_path: Path) -> None:
    same = [{"prompt": f"q {n}", "chosen": "so", "rejected": "so"} for n in range(3)]
    code, _ = recipe.run("data.recipes.prepare", upload(tmp_path / "upload", same))
    assert code == EXIT_BAD_DATA
    assert "no row is left of 3: 3 chosen and rejected are the same" in recipe.events("error")[0]["message"]

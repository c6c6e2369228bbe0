"""File formats: what is read, and which file and line an error names."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelyard.workers.data.readers import READERS
from modelyard.workers.recipe import BadData


def read(folder: Path, format_: str, content: str | bytes, encoding: str = "utf-8") -> list[dict[str, object]]:
    path = folder / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [record.values for record in READERS[format_](path, "rows.x", encoding)]


class TestRead:
    def test_jsonl_skips_blank_lines_and_a_byte_order_mark(self, tmp_path: Path) -> None:
        assert read(tmp_path, "jsonl", '\ufeff{"text": "a"}\r\n\n{"text": "b"}') == [{"text": "a"}, {"text": "b"}]

    def test_csv_keeps_line_breaks_inside_quotes(self, tmp_path: Path) -> None:
        rows = read(tmp_path, "csv", 'prompt,completion\n"a\nb",c\n')
        assert rows == [{"prompt": "a\nb", "completion": "c"}]

    def test_csv_takes_fields_longer_than_the_module_allows_by_default(self, tmp_path: Path) -> None:
        assert len(str(read(tmp_path, "csv", "text\n" + "x" * 200_000)[0]["text"])) == 200_000

    def test_parquet(self, tmp_path: Path) -> None:
        rows = [{"messages": [{"role": "user", "content": "a"}]}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "file")
        assert [record.values for record in READERS["parquet"](tmp_path / "file", "rows.parquet", "utf-8")] == rows

    def test_text_in_another_encoding(self, tmp_path: Path) -> None:
        assert read(tmp_path, "text", "Größe".encode("latin-1"), "latin-1") == [{"text": "Größe"}]


@pytest.mark.parametrize(
    ("format_", "content", "message"),
    [
        ("jsonl", '{"text": "a"}\n{"text": \n', "rows.x, line 2: not JSON"),
        ("jsonl", '{"text": "a"}\n\n["a"]\n', "rows.x, line 3: a JSON list"),
        ("jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "rows.x, line 2: not utf-8"),
        ("csv", "a,b\n1,2\n1,2,3\n", "rows.x, line 3: not the 2 fields"),
        ("csv", "a,b\n1\n", "rows.x, line 2: not the 2 fields"),
        ("csv", 'a\n"x"y\n', "rows.x, line 2:"),
        ("parquet", b"PAR1 nothing of the kind", "rows.x, after row 0: not readable"),
        ("text", b"one\ntwo\n\xe9", "rows.x, line 3: not utf-8"),
        ("chatterbot", "conversations: [", "rows.x: no YAML"),
        ("chatterbot", "categories: [a]", "rows.x: no YAML"),
        ("chatterbot", "conversations: a", "rows.x: `conversations` is no list"),
    ],
)
def test_bad_files_are_named_with_line_and_reason(tmp_path: Path, format_: str, content: str | bytes, message: str) -> None:
    with pytest.raises(BadData, match=message.replace("(", r"\(")):
        read(tmp_path, format_, content)


class TestReadChatterbot:
    def turns(self, folder: Path, yaml: str) -> list[list[str]]:
        rows = read(folder, "chatterbot", f"conversations:\n{yaml}")
        return [[f"{turn['role']}: {turn['content']}" for turn in row["messages"]] for row in rows if row]  # type: ignore[attr-defined]

    def test_a_question_with_several_answers_gives_a_pair_each(self, tmp_path: Path) -> None:
        found = self.turns(tmp_path, "- ['What is it?', A thing., A matter.]")
        assert found == [["user: What is it?", "assistant: A thing."], ["user: What is it?", "assistant: A matter."]]

    def test_a_dialogue_alternates_and_ends_with_an_answer(self, tmp_path: Path) -> None:
        found = self.turns(tmp_path, "- [Hello, 'Hi, how are you?', I am well, Good., Bye]")
        assert found == [["user: Hello", "assistant: Hi, how are you?", "user: I am well", "assistant: Good."]]

    def test_a_single_string_is_passed_on_as_a_problem(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_text("conversations:\n- just one string\n- [a, b]\n")
        problems = [record.problem for record in READERS["chatterbot"](path, "rows.yml", "utf-8")]
        assert problems == ["conversation of one turn", ""]

"""What may be uploaded: every row is looked at, and a mistake is named by file, line and reason."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from modelyard.domain.registry.uploads import MalformedDataset, check_upload, format_of

LONG = "x" * 200_000


def check(folder: Path, name: str, content: bytes) -> dict[str, object]:
    """Check a file as it was uploaded."""
    path = folder / f"data.{format_of(name)}"
    path.write_bytes(content)
    return check_upload(path, format_of(name), name)


class TestAccept:
    @pytest.mark.parametrize(
        ("name", "content", "rows", "columns"),
        [
            ("a.jsonl", b'{"text": "x"}\n\n{"text": "y", "n": 1}', 2, ["text", "n"]),
            ("A.JSONL", b'\xef\xbb\xbf{"text": "\xc3\xa4"}\r\n', 1, ["text"]),
            ("a.csv", b'text,n\n"a\nb",1\n\nc,2\n', 2, ["text", "n"]),
            ("bom.csv", b"\xef\xbb\xbftext\nx\n", 1, ["text"]),
            ("long.csv", f"text\n{LONG}\n".encode(), 1, ["text"]),
            ("a.txt", b"one\n\ntwo\n  \n", 2, ["text"]),
        ],
    )
    def test_good_files(self, tmp_path: Path, name: str, content: bytes, rows: int, columns: list[str]) -> None:
        assert check(tmp_path, name, content) == {"rows": rows, "columns": columns}

    def test_parquet(self, tmp_path: Path) -> None:
        pyarrow.parquet.write_table(pyarrow.table({"text": ["a", "b"], "n": [1, 2]}), tmp_path / "data.parquet")
        assert check_upload(tmp_path / "data.parquet", "parquet", "a.parquet") == {"rows": 2, "columns": ["text", "n"]}


class TestRefuse:
    @pytest.mark.parametrize(
        ("name", "content", "says"),
        [
            ("a.jsonl", b'{"text": 1}\n{"text": \n', "a.jsonl, line 2: not JSON"),
            ("a.jsonl", b'{"a": 1}\n\n[1]\n', "a.jsonl, line 3: a row is a JSON object, this is a list"),
            ("a.jsonl", b"[" * 100_000, "a.jsonl, line 1: not JSON"),
            ("a.jsonl", b'{"a": "x"}\n{"a": "\xff"}\n', "a.jsonl, line 2: byte 8 of the line is not UTF-8"),
            ("a.csv", b"text,n\na,1\nb\n", "a.csv, line 3: 1 columns, but the header has 2"),
            ("a.csv", b'text\n"never closed\n', "a.csv, line 2: unexpected end of data"),
            ("a.csv", b"text\nx\n\xff\n", "a.csv, line 3: byte 1 of the line is not UTF-8"),
            ("a.txt", b"x\n" * 9000 + b"\xff", "a.txt, line 9001: byte 1 of the line is not UTF-8"),
            ("a.parquet", b"PAR1 no", "a.parquet: not a readable Parquet file"),
            ("a.jsonl", b"", "a.jsonl: there is no row in it"),
            ("a.jsonl", b"\n \n", "a.jsonl: there is no row in it"),
            ("a.csv", b"", "a.csv: there is no row in it"),
            ("a.csv", b"text,n\n", "a.csv: there is no row in it"),
            ("a.txt", b"\n\n", "a.txt: there is no row in it"),
            ("a.parquet", b"", "a.parquet: not a readable Parquet file"),
        ],
    )
    def test_names_file_line_and_reason(self, tmp_path: Path, name: str, content: bytes, says: str) -> None:
        with pytest.raises(MalformedDataset) as caught:
            check(tmp_path, name, content)
        assert str(caught.value).startswith(says)
        assert (caught.value.field, caught.value.value, caught.value.status) == ("file", name, 422)

    def test_a_parquet_file_cut_short(self, tmp_path: Path) -> None:
        pyarrow.parquet.write_table(pyarrow.table({"text": ["a"] * 1000}), tmp_path / "whole.parquet")
        with pytest.raises(MalformedDataset, match="not a readable Parquet file"):
            check(tmp_path, "a.parquet", (tmp_path / "whole.parquet").read_bytes()[:-20])

    @pytest.mark.parametrize("name", ["a.docx", "a", "", "jsonl", "a.jsonl.gz"])
    def test_other_formats(self, name: str) -> None:
        with pytest.raises(MalformedDataset, match=r"must end in one of \.jsonl, \.csv, \.txt, \.parquet"):
            format_of(name)

"""Nothing a recipe writes is read twice, or in halves."""

import json
from pathlib import Path

import pytest

from modelyard.workers.runner import reading
from modelyard.workers.runner.reading import EventReader, LogReader


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file somebody else writes."""
    return tmp_path / "file"


def read_all(reader: LogReader, is_last: bool = True) -> str:
    """Read until nothing comes any more."""
    texts = []
    while True:
        text, offset = reader.read(is_last)
        if offset == reader.offset:
            return "".join(texts)
        texts.append(text)
        reader.offset = offset


class TestEvents:
    def test_a_half_line_waits_for_its_other_half(self, file: Path) -> None:
        reader = EventReader(file)
        assert reader.read() == ([], 0)
        file.write_text('{"type": "a"}\n{"type": "b", "te')
        events, reader.offset = reader.read()
        assert (events, reader.offset) == ([{"type": "a"}], 14)
        assert reader.read() == ([], 14)
        with file.open("a") as more:
            more.write('xt": "x"}\n')
        assert reader.read()[0] == [{"type": "b", "text": "x"}]

    def test_reading_again_after_a_failure_loses_nothing(self, file: Path) -> None:
        file.write_text('{"type": "a"}\n')
        reader = EventReader(file)
        assert reader.read() == reader.read()

    @pytest.mark.parametrize("line", ["no json", "[1]", '"text"', "{}", '{"type": 1}', "\ufffd", '{"type": "a"'])
    def test_what_is_no_event_stops_nothing(self, file: Path, line: str) -> None:
        file.write_text(f'{line}\n\n{{"type": "a"}}\n')
        events, _ = EventReader(file).read()
        assert events == [{"type": "unreadable", "line": line}, {"type": "a"}]

    def test_text_of_all_kinds_in_one_line(self, file: Path) -> None:
        event = {"type": "note", "text": "a\nb\rc\u2028d\x85ä"}
        file.write_text(json.dumps(event, ensure_ascii=False) + "\n", encoding="utf-8")
        assert EventReader(file).read()[0] == [event]


class TestLogs:
    def test_whole_lines_only_until_the_end(self, file: Path) -> None:
        reader = LogReader(file, 0)
        assert reader.read() == ("", 0)
        file.write_text("one\ntw")
        text, reader.offset = reader.read()
        assert (text, reader.offset) == ("one\n", 4)
        assert reader.read() == ("", 4)
        assert reader.read(is_last=True) == ("tw", 6)

    @pytest.mark.parametrize(
        ("written", "shown"),
        [
            ("1%\r50%\r100%\n", "100%\n"),
            ("windows\r\nline\r\n", "windows\nline\n"),
            ("\x1b[31mred\x1b[0m\x1b[K\n", "red\n"),
            ("a\n\n\nb\n", "a\n\n\nb\n"),
            ("\r\n", "\n"),
        ],
    )
    def test_progress_bars_and_colours(self, file: Path, written: str, shown: str) -> None:
        file.write_text(written, newline="")
        assert LogReader(file, 0).read()[0] == shown

    def test_bytes_that_are_no_text(self, file: Path) -> None:
        file.write_bytes(b"a\xffb\n")
        assert LogReader(file, 0).read()[0] == "a\ufffdb\n"

    def test_a_long_log_comes_in_chunks(self, file: Path) -> None:
        text = "".join(f"line {number}\n" for number in range(20_000)) + "the last words"
        file.write_text(text)
        reader = LogReader(file, 0)
        first, offset = reader.read()
        assert first.endswith("\n")
        assert offset == len(first) <= reading.CHUNK_BYTES
        assert read_all(LogReader(file, 0)) == text

    def test_a_bar_that_never_ends_its_line(self, file: Path) -> None:
        file.write_text("".join(f"{number:07}%\r" for number in range(20_000)), newline="")
        reader = LogReader(file, 0)
        text, offset = reader.read()
        assert offset == reading.CHUNK_BYTES
        assert len(text) <= 9

    def test_the_limit(self, file: Path) -> None:
        file.write_text("x" * 99 + "\n")
        with file.open("a") as more:
            more.writelines("x" * 99 + "\n" for _ in range(reading.LOG_LIMIT_BYTES // 100 + 2000))
        text = read_all(LogReader(file, 0))
        assert reading.LOG_LIMIT_BYTES <= len(text) < reading.LOG_LIMIT_BYTES + reading.CHUNK_BYTES + 200
        assert text.endswith("only 4 MiB are kept here]\n")
        assert text.count("only 4 MiB") == 1

"""Cleaning repairs damage and leaves meaning alone; passages and headers are cut where they should be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.workers.data.cleaning import clean
from modelyard.workers.data.gutenberg import strip_gutenberg
from modelyard.workers.data.passages import split_passages


@pytest.mark.parametrize(
    ("dirty", "expected"),
    [
        ("schÃ¶n", "schön"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("a\n\n\n\n\nb", "a\n\nb"),
        ("a  \t\nb \n", "a\nb"),
        ("a\x00b\x07c", "abc"),
        ("a\u00a0b\u200bc\ufeff", "a bc"),
        ("half \ud83d of a pair", "half \ufffd of a pair"),
        ("def f():\n    return 1", "def f():\n    return 1"),
        ("&lt;b&gt; “quoted” ﬁ", "&lt;b&gt; “quoted” ﬁ"),
    ],
)
def test_clean(dirty: str, expected: str) -> None:
    assert clean(dirty) == expected


# Not for any text: repairing an encoding can bring to light text that looks like another damage.
@given(st.text(alphabet=" \t\r\n\x00\x07\u00a0\u200bab"))
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    assert clean(clean(text)) == clean(text)


class TestStripGutenberg:
    def test_removes_header_and_footer(self) -> None:
        text = (
            "Licence\n*** START OF THIS PROJECT GUTENBERG EBOOK X ***\n\nThe play.\n\n"
            "*** END OF THIS PROJECT GUTENBERG EBOOK X ***\nSmall print"
        )
        assert strip_gutenberg(text) == "The play."

    def test_removes_the_small_print_of_old_files(self) -> None:
        text = "x\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\nThe play.\nEnd of Project Gutenberg's X\ny"
        assert strip_gutenberg(text) == "The play."

    def test_keeps_a_text_without_marks(self) -> None:
        assert strip_gutenberg("To be, or not to be") == "To be, or not to be"


class TestSplitPassages:
    def test_packs_paragraphs_up_to_the_limit(self) -> None:
        assert list(split_passages("aaa\n\nbbb\n\nccc", limit=8)) == ["aaa\n\nbbb", "ccc"]

    def test_cuts_an_overlong_paragraph_between_lines(self) -> None:
        assert list(split_passages("one two\nthree four\nfive", limit=12)) == ["one two", "three four", "five"]

    @given(st.text(alphabet="ab .\n", max_size=300), st.integers(min_value=4, max_value=50))
    def test_loses_no_letter_and_keeps_the_limit(self, text: str, limit: int) -> None:
        passages = list(split_passages(text, limit))
        assert all(len(passage) <= limit for passage in passages)
        letters = "".join(passages).replace(" ", "").replace("\n", "")
        assert letters == text.replace(" ", "").replace("\n", "")

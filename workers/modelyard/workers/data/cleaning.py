"""Repair and normalise text without changing what it says."""

import re

import ftfy

# Quotes, entities and full-width letters may be meant as they are; encoding damage and control characters never are.
_REPAIR = ftfy.TextFixerConfig(
    unescape_html=False, uncurl_quotes=False, fix_latin_ligatures=False, fix_character_width=False, explain=False
)
_SPACES = re.compile(r"[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_INVISIBLE = re.compile(r"[\u200b\u2060\ufeff\u00ad]")
_LINE_ENDS = re.compile(r"[ \t]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")


def clean(text: str) -> str:
    """Fix broken encodings, control characters and line ends; at most one blank line in a row; nothing around it.

    Indentation and runs of spaces inside a line stay: in code and verse they carry meaning.
    """
    repaired = ftfy.fix_text(text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", ""), _REPAIR)
    spaced = _INVISIBLE.sub("", _SPACES.sub(" ", repaired))
    lines = _LINE_ENDS.sub("", spaced).strip("\n")
    return _BLANK_LINES.sub("\n\n", lines).rstrip()

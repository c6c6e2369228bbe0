"""Remove what Project Gutenberg prints around its texts (licence, credits, small print)."""

import re

_START = re.compile(
    r"^(?:\*{3}\s*START OF (?:THE|THIS) PROJECT GUTENBERG.*|\*END\*?\s*THE SMALL PRINT.*|\*{3}START\*{2}THE SMALL PRINT.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_END = re.compile(
    r"^\s*(?:\*{3}\s*END OF (?:THE|THIS) PROJECT GUTENBERG.*|End of (?:the |this )?Project Gutenberg.*)$",
    re.IGNORECASE | re.MULTILINE,
)


def strip_gutenberg(text: str) -> str:
    """Return the text between the last start mark and the first end mark after it; all of it when there are none."""
    start = max((match.end() for match in _START.finditer(text)), default=0)
    end = _END.search(text, start)
    return text[start : end.start() if end else len(text)].strip("\r\n")

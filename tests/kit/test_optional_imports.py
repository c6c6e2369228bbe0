"""Libraries that are hidden from others for a moment."""

import sys

import pytest

from modelyard.kit.optional_imports import without


class TestWithout:
    def test_one_that_was_not_imported_is_not_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "this", raising=False)
        with pytest.raises(ImportError), without("this"):
            import this  # noqa: F401
        assert "this" not in sys.modules

    def test_one_that_was_imported_stays(self) -> None:
        with without("json"):
            import json
        assert sys.modules["json"] is json

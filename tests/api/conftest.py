"""The real application, asked over HTTP."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from running_api import Api, start

from modelyard.kit.settings import Settings


@pytest.fixture
def api(settings: Settings, sqlite_url: str) -> Iterator[Api]:
    """The application on SQLite, with a broker that does not answer."""
    yield from start(settings, sqlite_url)


@pytest.fixture
def api_on_both(settings: Settings, database_url: str) -> Iterator[Api]:
    """The application on SQLite and on PostgreSQL."""
    yield from start(settings, database_url)


@pytest.fixture
def check_problem() -> Callable[..., dict[str, Any]]:
    """Check that an answer is a problem document readable for OpenAI clients too; return it."""

    def check(response: Any, status: int, code: str, field: str | None = None) -> dict[str, Any]:
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        body: dict[str, Any] = response.json()
        assert (body["status"], body["code"]) == (status, code)
        assert body["type"].endswith(code)
        assert body["detail"]
        assert body["error"]["message"] == body["detail"]
        if field is not None:
            assert field in [entry["field"] for entry in body["errors"]], body["errors"]
            assert all(entry["reason"] for entry in body["errors"])
        return body

    return check

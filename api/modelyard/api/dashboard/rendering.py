"""Templates to answers: autoescaped, under a policy that lets a page load and run only our own files."""

import time
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import Response

from modelyard.api.dashboard import formatting
from modelyard.domain.jobs.lifecycle import JobState
from modelyard.domain.projects.repository import Caller

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def _make_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        auto_reload=False,  # templates belong to the code of this process, also while an upgrade replaces the files
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(formatting.FILTERS)
    environment.globals["is_finished"] = lambda state: JobState(state).is_finished()
    environment.globals["now"] = time.time
    return environment


TEMPLATES = _make_environment()


def page(request: Request, template: str, viewer: Caller | None, status: int = 200, **values: Any) -> Response:
    """One page. `viewer` is who looks, None where nobody is logged in."""
    can_write = viewer is not None and viewer.may("write")
    shown = TEMPLATES.get_template(f"{template}.html.jinja").render(
        request=request, viewer=viewer, can_write=can_write, url=_own_url(request), **values
    )
    return HTMLResponse(shown, status)


def protect(response: Response) -> None:
    """Set the headers of every page: nothing from elsewhere, no framing, nothing kept in caches."""
    response.headers.setdefault("Content-Security-Policy", POLICY)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "no-store"


def _own_url(request: Request) -> str:
    return f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path

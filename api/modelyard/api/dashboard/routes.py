"""Routes whose errors are pages, not problem documents."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute
from sqlalchemy.exc import OperationalError

from modelyard.api.dashboard.rendering import page, protect
from modelyard.api.dashboard.session import LoginNeeded, find_viewer
from modelyard.api.errors import TITLES, problem
from modelyard.domain.errors import DomainError


class PageRoute(APIRoute):
    """A route of the dashboard: sends visitors to the login page, shows errors as pages, sets the protecting headers."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """Wrap FastAPI's handler."""
        handle = super().get_route_handler()

        async def handle_as_page(request: Request) -> Response:
            try:
                response = await handle(request)
            except Exception as error:
                response = _answer_error(request, error)
            protect(response)
            return response

        return handle_as_page


def make_router() -> APIRouter:
    """A router for pages; they are no part of the described API."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)


def back_to(path: str) -> RedirectResponse:
    """After a write: show the page anew, with GET."""
    return RedirectResponse(path, 303)


def _answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, LoginNeeded):
        return _ask_for_login(request)
    if isinstance(error, DomainError):
        return _show_error(request, error.status, str(error))
    if isinstance(error, RequestValidationError):
        found: Any = error.errors()[0]
        return _show_error(request, 422, f"{'.'.join(str(part) for part in found['loc'][1:])}: {found['msg']}")
    if isinstance(error, OperationalError):
        # No look at who is logged in: that needs the database too.
        return page(request, "error", None, 503, title=TITLES[503], message="The database does not answer; try again shortly.")
    raise error


def _ask_for_login(request: Request) -> Response:
    if "hx-request" in request.headers or request.headers.get("sec-fetch-dest") == "empty":
        # Asked by a script of a page whose session ended: a redirect would be followed unseen.
        return problem(401, "login_needed", "The session has ended; log in again")
    after = quote(request.url.path) if request.method == "GET" and request.url.path != "/" else ""
    return RedirectResponse(f"/login?after={after}" if after else "/login", 303)


def _show_error(request: Request, status: int, message: str) -> Response:
    viewer = find_viewer(request, request.app.state.platform)
    return page(request, "error", viewer, status, title=TITLES.get(status, "Error"), message=message)

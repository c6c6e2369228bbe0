"""Logging in with an API key, and out."""

from typing import Annotated

from fastapi import Depends, Form, Request, Response

from modelyard.api.dashboard.rendering import page
from modelyard.api.dashboard.routes import back_to, make_router
from modelyard.api.dashboard.session import SameOrigin, end_session, find_viewer, start_session
from modelyard.api.dependencies import PlatformDep
from modelyard.domain.projects.repository import Caller, find_caller

router = make_router()


@router.get("/login")
def show_login(request: Request, viewer: Annotated[Caller | None, Depends(find_viewer)], after: str = "/") -> Response:
    """The form, or straight on where one is logged in already."""
    return back_to(_safe(after)) if viewer else page(request, "login", None, after=_safe(after), problem=None)


@router.post("/login", dependencies=[SameOrigin])
def log_in(
    request: Request, platform: PlatformDep, key: Annotated[str, Form()] = "", after: Annotated[str, Form()] = "/"
) -> Response:
    """Check a key and remember it. No limit on tries is needed: a key has 256 bits."""
    with platform.database.read() as session:
        caller = find_caller(session, key.strip())
    if caller is None:
        problem = "This API key is unknown or was revoked." if key.strip() else "Paste an API key."
        return page(request, "login", None, 401, after=_safe(after), problem=problem)
    response = back_to(_safe(after))
    start_session(request, response, key.strip())
    return response


@router.post("/logout", dependencies=[SameOrigin])
def log_out(request: Request) -> Response:
    """Forget the key in this browser."""
    response = back_to("/login")
    end_session(request, response)
    return response


def _safe(after: str) -> str:
    # `//host` and `/\host` are other sites to a browser.
    return after if after.startswith("/") and not after.startswith(("//", "/\\")) else "/"

"""Who looks at a page: the API key in a cookie, and a check that a write comes from our own page.

The cookie holds the key itself. A session table would store something equally powerful, need expiry and clean-up, and
end no sooner: revoking the key ends every session of it at once. `HttpOnly` keeps it from scripts, `SameSite=Strict`
from requests other sites start, `Secure` from plain HTTP wherever the page itself came over HTTPS.
"""

from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response

from modelyard.api.dependencies import PlatformDep
from modelyard.api.errors import ApiError
from modelyard.domain.projects.repository import Caller, find_caller

SESSION_SECONDS = 7 * 24 * 3600


class LoginNeeded(Exception):
    """Nobody is logged in; the login page is the way on."""


def cookie_name(request: Request) -> str:
    """Cookies ignore ports: a name per port keeps platforms side by side on one host from logging each other out."""
    return f"modelyard_key_{request.url.port or request.url.scheme}"


def start_session(request: Request, response: Response, key: str) -> None:
    """Remember a key that was checked before."""
    is_secure = request.url.scheme == "https"
    response.set_cookie(
        cookie_name(request), key, max_age=SESSION_SECONDS, httponly=True, samesite="strict", secure=is_secure
    )  # fmt: skip


def end_session(request: Request, response: Response) -> None:
    """Forget the key."""
    response.delete_cookie(cookie_name(request), httponly=True, samesite="strict", secure=request.url.scheme == "https")


def find_viewer(request: Request, platform: PlatformDep) -> Caller | None:
    """Whose page this is; None if nobody is logged in, or the key was revoked since."""
    key = request.cookies.get(cookie_name(request))
    if key is None:
        return None
    with platform.database.read() as session:
        return find_caller(session, key)


def check_same_origin(request: Request) -> None:
    """Refuse a write another site started. Raises `ApiError` 403.

    Browsers name the relation in `Sec-Fetch-Site` (Fetch Metadata, W3C) or at least the page in `Origin` (RFC 6454);
    what names neither is no browser with our cookie.
    """
    relation = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin", "")
    own = relation == "same-origin" if relation else bool(origin) and urlsplit(origin).netloc == request.url.netloc
    if not own:
        raise ApiError(403, "cross_site_request", "This did not come from a page of this dashboard, so nothing was done")


def _viewer(scope: str) -> Callable[[Request, Caller | None], Caller]:
    def check(request: Request, caller: Annotated[Caller | None, Depends(find_viewer)]) -> Caller:
        if caller is None:
            raise LoginNeeded
        if not caller.may(scope):
            raise ApiError(403, "missing_scope", f"Your API key lacks the scope {scope!r}; log in with another one")
        return caller

    return check


Viewer = Annotated[Caller, Depends(_viewer("read"))]
Editor = Annotated[Caller, Depends(_viewer("write"))]
SameOrigin = Depends(check_same_origin)

"""What endpoints ask for: the platform's parts, the caller, a page."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from modelyard.api.callers import Callers
from modelyard.api.errors import ApiError
from modelyard.api.jobs.creation import JobWriter
from modelyard.domain.projects.repository import REMEMBERED_DAYS, Caller, remember, remembered_resource
from modelyard.kit.broker import Broker
from modelyard.kit.database import Database
from modelyard.kit.messages import BackgroundSender
from modelyard.kit.settings import Settings
from modelyard.kit.storage import ArtifactStore

T = TypeVar("T")


@dataclass(frozen=True)
class Platform:
    """The parts every endpoint may need; made once per app."""

    settings: Settings
    database: Database
    store: ArtifactStore
    broker: Broker
    callers: Callers
    job_writer: JobWriter
    tickets: BackgroundSender


# Endpoints and dependencies that wait for nothing are `async`: the others each take a turn in a pool of threads.
async def _platform(request: Request) -> Platform:
    platform: Platform = request.app.state.platform
    return platform


PlatformDep = Annotated[Platform, Depends(_platform)]
_bearer = HTTPBearer(auto_error=False, description="An API key: `Authorization: Bearer my_…`")


async def _caller(
    request: Request, platform: PlatformDep, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)] = None
) -> Caller:
    return await identify(platform.callers, request.headers.get("authorization"))


async def identify(callers: Callers, authorization: str | None) -> Caller:
    """Find the caller by the header of a request. Raises `ApiError` 401 without a key that is known."""
    scheme, _, secret = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise ApiError(401, "missing_api_key", "Send an API key: Authorization: Bearer my_…", field="Authorization")
    caller = await callers.find(secret)
    if caller is None:
        raise ApiError(401, "invalid_api_key", "This API key is unknown or was revoked", field="Authorization")
    return caller


AnyCaller = Annotated[Caller, Depends(_caller)]


def _needs(scope: str) -> Callable[[Caller], Awaitable[Caller]]:
    async def check(caller: AnyCaller) -> Caller:
        if not caller.may(scope):
            raise ApiError(403, "missing_scope", f"This API key lacks the scope {scope!r}", field="Authorization")
        return caller

    return check


Reader = Annotated[Caller, Depends(_needs("read"))]
Writer = Annotated[Caller, Depends(_needs("write"))]
Admin = Annotated[Caller, Depends(_needs("admin"))]


@dataclass(frozen=True)
class Page:
    """Which part of a list is wanted."""

    limit: int
    after: str | None


async def _page(
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most")] = 20,
    after: Annotated[str | None, Query(description="`next` of the page before")] = None,
) -> Page:
    return Page(limit, after)


PageDep = Annotated[Page, Depends(_page)]


@dataclass(frozen=True)
class Once:
    """Makes a thing at most once per `Idempotency-Key`."""

    platform: Platform
    key: str | None
    fingerprint: str

    def create(self, caller: Caller, make: Callable[[Session], str]) -> tuple[str, bool]:
        """Run `make` in a transaction and return the id it made, and True; or the id made before under this key, and False."""
        if self.key is None:
            with self.platform.database.write() as session:
                return make(session), True
        try:
            with self.platform.database.write() as session:
                known = remembered_resource(session, caller.project_id, self.key, self.fingerprint)
                if known is not None:
                    return known, False
                made = make(session)
                remember(session, caller.project_id, self.key, self.fingerprint, made)
                return made, True
        except IntegrityError:  # the same request at the same moment was first
            with self.platform.database.read() as session:
                known = remembered_resource(session, caller.project_id, self.key, self.fingerprint)
            if known is None:
                raise
            return known, False


MAX_KEY_CHARACTERS = 200
"""Of an Idempotency-Key."""
ONCE = f"The same key with the same body makes the thing only once; keys are forgotten after {REMEMBERED_DAYS} days"


async def _once(
    request: Request,
    platform: PlatformDep,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=MAX_KEY_CHARACTERS, description=ONCE)] = None,
) -> Once:
    return Once(platform, idempotency_key, fingerprint_of(request, await request.body()))


def fingerprint_of(request: Request, body: bytes) -> str:
    """What makes two requests the same: method, path and body."""
    digest = hashlib.sha256(f"{request.method} {request.url.path}\n".encode())
    digest.update(body)
    return digest.hexdigest()


OnceDep = Annotated[Once, Depends(_once)]

"""Pages of registered things: the same three for each type."""

from fastapi import APIRouter, Request, Response

from modelyard.api.dashboard.formatting import PLURALS
from modelyard.api.dashboard.rendering import page
from modelyard.api.dashboard.routes import make_router
from modelyard.api.dashboard.samples import read_sample
from modelyard.api.dashboard.session import Viewer
from modelyard.api.dependencies import PageDep, PlatformDep
from modelyard.api.registry.endpoints import read_file
from modelyard.api.registry.service import list_files
from modelyard.domain.registry import repository
from modelyard.domain.registry.lineage import trace
from modelyard.domain.registry.tables import TABLES


def make_registry_router(type_: str) -> APIRouter:
    """List, details and files of one type."""
    router = make_router()
    plural = PLURALS[type_]

    @router.get(f"/{plural}")
    def show_all(request: Request, platform: PlatformDep, viewer: Viewer, wanted: PageDep, name: str = "") -> Response:
        with platform.database.read() as session:
            rows = repository.list_registered(
                session, viewer.project_id, type_, name=name or None, after=wanted.after, limit=wanted.limit + 1
            )
        shown = rows[: wanted.limit]
        after = shown[-1].id if len(rows) > wanted.limit else None
        return page(request, "registry", viewer, type=type_, plural=plural, rows=shown, after=after, name=name)

    @router.get(f"/{plural}/{{reference}}")
    def show_one(request: Request, reference: str, platform: PlatformDep, viewer: Viewer) -> Response:
        with platform.database.read() as session:
            row = repository.get_or_raise(session, viewer.project_id, type_, reference)
            lineage = trace(session, type_, row.id)
            versions = repository.list_registered(session, viewer.project_id, type_, name=row.name, limit=20)
        return page(
            request,
            "registered",
            viewer,
            type=type_,
            plural=plural,
            row=row,
            lineage=lineage,
            versions=versions,
            files=list_files(platform, row),
            sample=read_sample(platform.store, row) if type_ == "dataset" else None,
        )

    @router.get(f"/{plural}/{{reference}}/files/{{name:path}}")
    def show_file(reference: str, name: str, platform: PlatformDep, viewer: Viewer) -> Response:
        with platform.database.read() as session:
            row = repository.get_or_raise(session, viewer.project_id, type_, reference)
        return read_file(platform, row, name)

    return router


routers = [make_registry_router(type_) for type_ in TABLES]

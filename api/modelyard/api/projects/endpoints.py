"""Routes of projects; only for keys with the scope `admin`, which may look at every project and change it."""

from fastapi import APIRouter, Response

from modelyard.api.dependencies import Admin, OnceDep, PageDep, PlatformDep
from modelyard.api.pages import PageOf
from modelyard.api.projects.schemas import ProjectCreate, ProjectPatch, ProjectPublic
from modelyard.api.projects.service import show_project
from modelyard.domain.projects import repository

router = APIRouter(prefix="/v1/projects", tags=["projects"])


@router.get("")
def list_projects(platform: PlatformDep, caller: Admin, page: PageDep) -> PageOf[ProjectPublic]:
    """All projects, oldest first, each with its share, its quotas and what it uses now."""
    with platform.database.read() as session:
        rows = repository.list_projects(session, page.after, page.limit + 1)
        shown = [show_project(session, row) for row in rows[: page.limit]]
    has_more = len(rows) > page.limit
    return PageOf(data=shown, has_more=has_more, next=shown[-1].id if has_more else None)


@router.post("", status_code=201)
def create_project(body: ProjectCreate, response: Response, platform: PlatformDep, caller: Admin, once: OnceDep) -> ProjectPublic:
    """Make a project. 409 if there is one of that name."""
    id_, _ = once.create(caller, lambda session: repository.create_project(session, **body.model_dump()).id)
    response.headers["Location"] = f"/v1/projects/{id_}"
    with platform.database.read() as session:
        return show_project(session, repository.get_project_or_raise(session, id_))


@router.get("/{project}")
def get_project(project: str, platform: PlatformDep, caller: Admin) -> ProjectPublic:
    """One project, by name or id."""
    with platform.database.read() as session:
        return show_project(session, repository.get_project_or_raise(session, project))


@router.patch("/{project}")
def change_project(project: str, body: ProjectPatch, platform: PlatformDep, caller: Admin) -> ProjectPublic:
    """Change share and quotas, by name or id. The scheduler holds and releases jobs accordingly within seconds."""
    with platform.database.write() as session:
        row = repository.get_project_or_raise(session, project)
        row.sqlmodel_update(body.model_dump(exclude_unset=True))
        session.add(row)
        session.flush()
        return show_project(session, row)

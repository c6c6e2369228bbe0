"""Routes of the ledger."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime
from sqlmodel import Session

from modelyard.api.dependencies import PlatformDep, Reader
from modelyard.api.errors import ApiError
from modelyard.api.usage.schemas import JobUsage, UsageReport, show_entry, show_report
from modelyard.domain.errors import InvalidRequest, NotFound
from modelyard.domain.jobs.repository import get_job_or_raise
from modelyard.domain.projects.repository import ALL_PROJECTS, Caller, find_project
from modelyard.domain.usage.periods import Period
from modelyard.domain.usage.repository import list_entries, report
from modelyard.domain.usage.sums import Grouping

router = APIRouter(prefix="/v1", tags=["usage"])


@router.get("/usage")
def show_usage(
    platform: PlatformDep,
    caller: Reader,
    group_by: Grouping = Grouping.JOB,
    since: Annotated[AwareDatetime | None, Query(description="Attempts that ended at or after this; default: all")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Attempts that ended before this; default: now")] = None,
    project: Annotated[str | None, Query(description="Name of a project, or `all`; needs the scope admin")] = None,
    job_id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> UsageReport:
    """What was used, in slot-hours, and what came of it; largest first. Running attempts count as if they ended well now."""
    if since is not None and until is not None and since >= until:
        raise InvalidRequest("`until` must be later than `since`", field="until", value=until.isoformat())
    period = Period(since.timestamp() if since else 0.0, until.timestamp() if until else None)
    with platform.database.read() as session:
        project_id = _project_id(session, caller, project)
        return show_report(group_by, report(session, group_by, project_id, job_id, period, limit + 1), limit)


@router.get("/jobs/{job_id}/usage")
def show_job_usage(job_id: str, platform: PlatformDep, caller: Reader) -> JobUsage:
    """What each attempt of a job used, oldest first."""
    with platform.database.read() as session:
        job = get_job_or_raise(session, caller.project_id, job_id)
        rows = report(session, Grouping.ACCELERATOR, job_id=job.id)
        entries = [show_entry(entry) for entry in list_entries(session, job)]
    return JobUsage(job_id=job_id, totals=show_report(Grouping.ACCELERATOR, rows, limit=len(rows)).data, data=entries)


def _project_id(session: Session, caller: Caller, name: str | None) -> str | None:
    if name is None:
        return caller.project_id
    if not caller.may("admin"):
        raise ApiError(403, "missing_scope", "Usage of other projects needs an API key with the scope 'admin'", field="project")
    if name == ALL_PROJECTS:
        return None
    project = find_project(session, name)
    if project is None:
        raise NotFound(f"There is no project {name!r}; GET /v1/projects lists them", field="project", value=name)
    return project.id

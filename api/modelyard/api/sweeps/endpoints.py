"""Routes of sweeps."""

from collections.abc import Callable

from fastapi import APIRouter, Response
from sqlmodel import Session

from modelyard.api.dependencies import OnceDep, PageDep, Platform, PlatformDep, Reader, Writer
from modelyard.api.pages import PageOf
from modelyard.api.sweeps.schemas import SweepDetail, SweepPublic, show_sweep, show_sweeps
from modelyard.domain.projects.repository import Caller
from modelyard.domain.sweeps import repository, service
from modelyard.domain.sweeps.bodies import SweepCreate
from modelyard.domain.sweeps.tables import Sweep

router = APIRouter(prefix="/v1/sweeps", tags=["sweeps"])


@router.post("", status_code=202)
def create_sweep(body: SweepCreate, response: Response, platform: PlatformDep, caller: Writer, once: OnceDep) -> SweepDetail:
    """Search for the best parameters of a job. Job and ranges are checked at once; the scheduler submits the trials."""

    def make(session: Session) -> str:
        return service.create_sweep(session, caller.project_id, body).id

    id_, _ = once.create(caller, make)
    response.headers["Location"] = f"/v1/sweeps/{id_}"
    return get_sweep(id_, platform, caller)


@router.get("")
def list_sweeps(platform: PlatformDep, caller: Reader, page: PageDep) -> PageOf[SweepPublic]:
    """List sweeps, newest first."""
    with platform.database.read() as session:
        rows = repository.list_sweeps(session, caller.project_id, page.after, page.limit + 1)
        shown = show_sweeps(session, rows[: page.limit])
    has_more = len(rows) > page.limit
    return PageOf(data=shown, has_more=has_more, next=shown[-1].id if has_more else None)


@router.get("/{sweep_id}")
def get_sweep(sweep_id: str, platform: PlatformDep, caller: Reader) -> SweepDetail:
    """One sweep by id or name (the newest of that name), with its trials."""
    with platform.database.read() as session:
        return show_sweep(session, repository.get_sweep_or_raise(session, caller.project_id, sweep_id))


@router.post("/{sweep_id}/cancel")
def cancel_sweep(sweep_id: str, platform: PlatformDep, caller: Writer) -> SweepDetail:
    """End it: what runs saves and leaves; checkpoints and the best so far are kept."""
    return _change(platform, caller, sweep_id, service.cancel_sweep)


@router.post("/{sweep_id}/pause")
def pause_sweep(sweep_id: str, platform: PlatformDep, caller: Writer) -> SweepDetail:
    """Give out no more work, and pause the trials that run."""
    return _change(platform, caller, sweep_id, service.pause_sweep)


@router.post("/{sweep_id}/resume")
def resume_sweep(sweep_id: str, platform: PlatformDep, caller: Writer) -> SweepDetail:
    """Let a paused sweep and its trials go on."""
    return _change(platform, caller, sweep_id, service.resume_sweep)


def _change(platform: Platform, caller: Caller, sweep_id: str, change: Callable[[Session, Sweep], None]) -> SweepDetail:
    with platform.database.write() as session:
        change(session, repository.get_sweep_or_raise(session, caller.project_id, sweep_id, for_update=True))
    return get_sweep(sweep_id, platform, caller)

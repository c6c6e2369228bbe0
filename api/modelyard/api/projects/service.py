"""What the routes of projects do beyond one query."""

from sqlmodel import Session

from modelyard.api.projects.schemas import ProjectPublic, UsagePublic
from modelyard.domain.jobs.allowances import read_hours_this_month
from modelyard.domain.jobs.lifecycle import ACTIVE, JobState
from modelyard.domain.jobs.tallies import total_by_state
from modelyard.domain.projects.tables import Project
from modelyard.domain.scheduling.standings import read_usage

HOUR_SECONDS = 3600.0


def show_project(session: Session, project: Project) -> ProjectPublic:
    """A project as clients see it."""
    return ProjectPublic.model_validate({**project.model_dump(), "usage": _read_usage_now(session, project.id)})


def _read_usage_now(session: Session, project_id: str) -> UsagePublic:
    totals = total_by_state(session, project_id)
    active = [total for state, total in totals.items() if state in ACTIVE]
    recent = read_usage(session, [project_id])[project_id].slot_seconds
    return UsagePublic(
        gpus_in_use=sum(total.slots for total in active),
        running_jobs=sum(total.jobs for total in active),
        waiting_jobs=sum(total.jobs for state, total in totals.items() if state in {JobState.QUEUED, JobState.HELD}),
        gpu_hours_this_month=read_hours_this_month(session, project_id),
        recent_gpu_hours=recent / HOUR_SECONDS,
    )

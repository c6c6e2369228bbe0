"""The route that examines the platform's rows, tickets and artifacts."""

import time
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from modelyard.api.dependencies import Admin, Platform, PlatformDep
from modelyard.domain.invariants.examination import Examiner
from modelyard.kit.broker import BrokerErrors

PATIENCE_INTERVALS = 4
"""A lost ticket is rung again at the scheduler's second look; twice that."""
PATIENCE_SECONDS = 1.0
router = APIRouter(prefix="/v1/invariants", tags=["cluster"])


class ViolationPublic(BaseModel):
    """Something that should be impossible."""

    model_config = ConfigDict(from_attributes=True)

    invariant: str
    job_id: str | None
    message: str


class InvariantsPublic(BaseModel):
    """What was looked at, and what is wrong."""

    ok: bool
    checked: dict[str, int] = Field(examples=[{"jobs": 120, "attempts": 131, "artifacts": 64, "queues": 2}])
    skipped: list[str]
    """What could not be looked at, and why."""
    violations: list[ViolationPublic]


@router.get("")
def check_invariants(
    platform: PlatformDep,
    caller: Admin,
    deep: Annotated[bool, Query(description="Compare the content of artifacts, not only sizes: reads all of them")] = False,
) -> InvariantsPublic:
    """Examine every job of the platform, its attempts, tickets and artifacts. What looks wrong is looked at twice."""
    report = make_examiner(platform, deep).examine()
    return InvariantsPublic(
        ok=report.is_ok,
        checked=report.checked,
        skipped=list(report.skipped),
        violations=[ViolationPublic.model_validate(each) for each in report.violations],
    )


def make_examiner(platform: Platform, deep: bool) -> Examiner:
    """An examiner of this platform."""
    patience = PATIENCE_SECONDS + PATIENCE_INTERVALS * platform.settings.scheduler_interval_seconds
    return Examiner(
        database=platform.database,
        store=platform.store,
        count_tickets=platform.broker.count_tickets,
        broker_errors=BrokerErrors,
        wait=lambda: time.sleep(patience),
        is_deep=deep,
    )

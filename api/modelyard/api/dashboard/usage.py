"""The page of the ledger: where the slot-hours went."""

import time
from dataclasses import asdict
from typing import Annotated

from fastapi import Query, Request, Response

from modelyard.api.dashboard.rendering import page
from modelyard.api.dashboard.routes import make_router
from modelyard.api.dashboard.session import Viewer
from modelyard.api.dependencies import PlatformDep
from modelyard.domain.usage.periods import DAY_SECONDS, Period, day_of
from modelyard.domain.usage.repository import report
from modelyard.domain.usage.sums import Grouping, UsageRow

router = make_router()
ROWS = 50
GROUPINGS = [Grouping.KIND, Grouping.JOB, Grouping.MONTH, Grouping.ATTEMPT]
"""Those that say something within one project."""


@router.get("/usage")
def show_usage(
    request: Request,
    platform: PlatformDep,
    viewer: Viewer,
    group_by: Grouping = Grouping.KIND,
    days: Annotated[int, Query(ge=1, le=3660)] = 30,
) -> Response:
    """Slot-hours of the project in the last days, largest first."""
    period = Period(start=(day_of(time.time()) - days) * DAY_SECONDS)  # whole days: they are added up already
    with platform.database.read() as session:
        rows = report(session, group_by, viewer.project_id, period=period, limit=ROWS + 1)
    widest = max((row.split.total for row in rows), default=0.0)
    return page(
        request,
        "usage",
        viewer,
        rows=[(row, make_segments(row, widest)) for row in rows[:ROWS]],
        has_more=len(rows) > ROWS,
        group_by=str(group_by),
        groupings=[str(each) for each in GROUPINGS],
        days=days,
    )


def make_segments(row: UsageRow, widest: float) -> list[tuple[str, float, float, float]]:
    """The parts of a bar: name, start and width in percent of the widest row, and slot-seconds. Pure."""
    segments, start = [], 0.0
    for name, seconds in asdict(row.split).items():
        width = 100.0 * seconds / widest if widest else 0.0
        if width > 0:
            segments.append((name, start, width, seconds))
        start += width
    return segments

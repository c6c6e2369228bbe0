"""Pages of deployments."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from modelyard.api.dashboard.charts import Chart, join
from modelyard.api.dashboard.rendering import page
from modelyard.api.dashboard.routes import back_to, make_router
from modelyard.api.dashboard.session import Editor, SameOrigin, Viewer
from modelyard.api.dependencies import PageDep, PlatformDep
from modelyard.api.deployments.endpoints import stop_deployment
from modelyard.domain.deployments import repository
from modelyard.domain.deployments.tables import Interaction
from modelyard.domain.registry.lineage import trace

router = make_router()
MEASURED = 1000
"""Newest requests that the figures and the chart are about."""
LISTED = 25


@dataclass(frozen=True)
class Service:
    """What the newest requests say about a deployment. Seconds; None where nothing was measured."""

    measured: int
    failed: int
    median_latency: float | None
    slow_latency: float | None
    """The 95th percentile."""
    median_first_token: float | None
    completion_tokens: int


def measure_service(interactions: Sequence[Interaction]) -> Service:
    """Summarise requests. Pure."""
    latencies = sorted(each.latency_seconds for each in interactions if each.status < 400)
    first = [each.time_to_first_token_seconds for each in interactions if each.time_to_first_token_seconds is not None]
    return Service(
        measured=len(interactions),
        failed=sum(each.status >= 400 for each in interactions),
        median_latency=statistics.median(latencies) if latencies else None,
        # Nearest rank: a latency that really occurred.
        slow_latency=latencies[-(-len(latencies) * 95 // 100) - 1] if latencies else None,
        median_first_token=statistics.median(first) if first else None,
        completion_tokens=sum(each.completion_tokens or 0 for each in interactions),
    )


@router.get("/deployments")
def show_deployments(request: Request, platform: PlatformDep, viewer: Viewer, wanted: PageDep) -> Response:
    """All deployments, newest first."""
    with platform.database.read() as session:
        rows = repository.list_deployments(session, viewer.project_id, wanted.after, wanted.limit + 1)
        shown = rows[: wanted.limit]
        answered = repository.count_interactions_each(session, [row.id for row in shown])
    after = shown[-1].id if len(rows) > wanted.limit else None
    return page(request, "deployments", viewer, deployments=shown, answered=answered, after=after)


@router.get("/deployments/{reference}")
def show_deployment(request: Request, reference: str, platform: PlatformDep, viewer: Viewer) -> Response:
    """One deployment: how it answers, and what it answered."""
    with platform.database.read() as session:
        deployment = repository.get_deployment_or_raise(session, viewer.project_id, reference)
        newest = repository.list_interactions(session, deployment.id, limit=MEASURED)
        return page(
            request,
            "deployment",
            viewer,
            deployment=deployment,
            answered=repository.count_interactions(session, deployment.id),
            service=measure_service(newest),
            interactions=newest[:LISTED],
            lineage=trace(session, "deployment", deployment.id),
        )


@router.get("/deployments/{reference}/curves")
def get_latencies(reference: str, platform: PlatformDep, viewer: Viewer) -> Response:
    """Latency of the newest requests over time, as JSON."""
    with platform.database.read() as session:
        deployment = repository.get_deployment_or_raise(session, viewer.project_id, reference)
        newest = repository.list_interactions(session, deployment.id, limit=MEASURED)
    whole = [(each.created_at, each.latency_seconds) for each in newest if each.status < 400]
    first = [
        (each.created_at, each.time_to_first_token_seconds) for each in newest if each.time_to_first_token_seconds is not None
    ]
    lines = {"whole answer": whole, "first token": first} if first else {"whole answer": whole}
    chart = Chart("latency in seconds", list(lines), join(list(lines.values())), f"{len(whole)} requests", is_time=True)
    charts = [chart.as_dict()] if whole else []
    return JSONResponse({"newest": 0, "is_finished": deployment.state == "stopped", "charts": charts})


@router.post("/deployments/{reference}/stop", dependencies=[SameOrigin])
def stop(reference: str, platform: PlatformDep, viewer: Editor) -> Response:
    """Stop serving."""
    stop_deployment(reference, platform, viewer)
    return back_to(f"/deployments/{reference}")

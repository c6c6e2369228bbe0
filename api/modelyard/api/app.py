"""The application: its parts, routes, errors and documents."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI

from modelyard.api.bodies import BodyLimit
from modelyard.api.callers import Callers
from modelyard.api.checkpoints.endpoints import router as checkpoints
from modelyard.api.cluster.endpoints import router as cluster
from modelyard.api.cluster.workers import router as workers
from modelyard.api.dashboard.application import add_dashboard
from modelyard.api.dependencies import Platform
from modelyard.api.deployments.endpoints import router as deployments
from modelyard.api.deployments.gateway import close_client
from modelyard.api.deployments.gateway import router as gateway
from modelyard.api.documentation import add_documentation
from modelyard.api.errors import install_error_handlers
from modelyard.api.gate import Gate
from modelyard.api.health.endpoints import router as health
from modelyard.api.invariants.endpoints import router as invariants
from modelyard.api.jobs.creation import JobWriter, create_jobs
from modelyard.api.jobs.decisions import router as decisions
from modelyard.api.jobs.direct import DirectSubmit
from modelyard.api.jobs.endpoints import router as jobs
from modelyard.api.parameters import refuse_unknown_parameters
from modelyard.api.pipelines.endpoints import router as pipelines
from modelyard.api.planning.endpoints import router as planning
from modelyard.api.projects.endpoints import router as projects
from modelyard.api.projects.keys import router as keys
from modelyard.api.registry.endpoints import routers as registry
from modelyard.api.reproduction.endpoints import router as reproduction
from modelyard.api.schedules.endpoints import router as schedules
from modelyard.api.sweeps.endpoints import router as sweeps
from modelyard.api.usage.endpoints import router as usage
from modelyard.domain.jobs.tickets import TASK
from modelyard.kit.broker import Broker
from modelyard.kit.database import Database
from modelyard.kit.logs import set_up_logs
from modelyard.kit.messages import BackgroundSender
from modelyard.kit.settings import Settings, get_settings
from modelyard.kit.storage import ArtifactStore

DESCRIPTION = """Submit lifecycle jobs, watch them, and talk to what they deployed.

Every route needs `Authorization: Bearer <key>`; errors are problem details (RFC 9457); lists are cursor pages
(`limit`, `after` → `data`, `has_more`, `next`); creating routes take an `Idempotency-Key`."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the API. Reads the environment where no settings are given; connects to nothing yet."""
    settings = settings or get_settings()
    set_up_logs(settings.log_level)
    app = FastAPI(
        title="Modelyard",
        version="0.1.0",
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.openapi_version = "3.2.0"
    database = Database(settings.database)
    app.state.platform = Platform(
        settings=settings,
        database=database,
        store=ArtifactStore(settings.artifacts, settings.folder("cache") / "artifacts"),
        broker=Broker(settings),
        callers=Callers(database),
        job_writer=JobWriter(database, create_jobs, weigh=lambda asked: len(asked.jobs)),
        tickets=BackgroundSender(settings, TASK),
    )
    app.add_middleware(DirectSubmit)
    app.add_middleware(BodyLimit, limit_bytes=settings.max_body_megabytes * 2**20)
    app.add_middleware(Gate)
    install_error_handlers(app)
    for router in (health, gateway):  # asked by programs that are not ours, with whatever they add
        app.include_router(router)
    for router in (
        planning,
        jobs,
        decisions,
        checkpoints,
        pipelines,
        schedules,
        sweeps,
        reproduction,
        *registry,
        deployments,
        cluster,
        workers,
        invariants,
        usage,
        projects,
        keys,
    ):
        app.include_router(router, dependencies=[Depends(refuse_unknown_parameters)])
    add_documentation(app)
    add_dashboard(app)
    return app


def create_server() -> FastAPI:
    """Build the API of a process that does nothing else: what is there now stays, and the garbage collector need not look at it
    again. Else it goes through all routes and schemas whenever a few thousand objects were made, as for each large batch.
    Nor does it look once before: that found next to nothing, and took a twelfth of the start."""
    app = create_app()
    gc.freeze()
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await close_client(app)
    platform: Platform = app.state.platform
    platform.job_writer.close()
    platform.tickets.close()
    platform.database.dispose()

"""The dashboard's place in the application."""

import os
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from modelyard.api.dashboard.decisions import router as decisions
from modelyard.api.dashboard.deployments import router as deployments
from modelyard.api.dashboard.jobs import router as jobs
from modelyard.api.dashboard.login import router as login
from modelyard.api.dashboard.overview import router as overview
from modelyard.api.dashboard.pipelines import router as pipelines
from modelyard.api.dashboard.registry import routers as registry
from modelyard.api.dashboard.schedules import router as schedules
from modelyard.api.dashboard.sweeps import router as sweeps
from modelyard.api.dashboard.usage import router as usage

STATIC = Path(__file__).parents[1] / "static"


class Assets(StaticFiles):
    """Our scripts and styles. Browsers ask each time whether they changed, so that an upgrade shows at once."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """A file, or 304 if the browser has it."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def add_dashboard(app: FastAPI) -> None:
    """Add the pages at `/` and their files at `/assets`."""
    for router in (login, overview, jobs, decisions, pipelines, sweeps, schedules, *registry, deployments, usage):
        app.include_router(router)
    app.mount("/assets", Assets(directory=STATIC), name="assets")

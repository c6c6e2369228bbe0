"""The real application over a real database, and clients that hold keys to it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from factories import Factory, spec_of
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.testclient import TestClient

from modelyard.api.app import create_app
from modelyard.domain.projects.repository import SCOPES, create_key
from modelyard.kit.database import Database
from modelyard.kit.settings import Settings


@dataclass
class Api:
    """An application, its database, and clients with keys."""

    app: FastAPI
    factory: Factory
    settings: Settings
    client: TestClient
    """Has all scopes in the default project."""

    def with_key(self, key: str) -> TestClient:
        """A client with another key; an empty one sends none."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return TestClient(self.app, headers=headers, raise_server_exceptions=False)

    def key(self, *scopes: str, project: str = "default") -> str:
        """A new key."""
        project_id = self.factory.project(project)
        with self.factory.database.write() as session:
            return create_key(session, project_id, "test", scopes or SCOPES)[1]

    def create(self, kind: str = "import", /, **changes: Any) -> dict[str, Any]:
        """Submit a job; return the answer."""
        response = self.client.post("/v1/jobs", json={"spec": spec_of(kind, **changes)})
        assert response.status_code == 202, response.text
        return dict(response.json())


def start(settings: Settings, url: str) -> Iterator[Api]:
    """Run the application on a database."""
    settings = settings.model_copy(update={"database_url": SecretStr(url), "max_body_megabytes": 1})
    app = create_app(settings)
    database = Database(url)
    api = Api(app, Factory(database), settings, TestClient(app))
    with TestClient(app, headers={"Authorization": f"Bearer {api.key()}"}, raise_server_exceptions=False) as client:
        api.client = client
        yield api
    database.dispose()

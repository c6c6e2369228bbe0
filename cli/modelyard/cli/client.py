"""The Python client: the REST API as methods that return plain data and raise the errors of `modelyard.cli.errors`.

with Client("http://127.0.0.1:8080", "my_…") as client:
    job = client.submit_job({"spec": {"kind": "prepare", …}})
"""

import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from modelyard.cli.credentials import find_credentials
from modelyard.cli.errors import ServerUnreachable, error_from_status

Document = dict[str, Any]

TIMEOUT_SECONDS = 60.0
"""Longest silence of the server in one call; connecting may take a tenth of it."""


class Client:
    """One platform, one key. Use as a context manager, or call `close`."""

    def __init__(
        self, url: str, key: str, transport: httpx2.BaseTransport | None = None, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self.url = url.rstrip("/")
        self._http = httpx2.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx2.Timeout(timeout_seconds, connect=TIMEOUT_SECONDS / 10),
            # A platform on this machine must not be looked for behind the proxy of the environment.
            trust_env=not _is_loopback(self.url),
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """GET a path and return its JSON; query parameters that are None are left out."""
        return self._call("GET", path, params={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, body: Any = None, idempotency_key: str | None = None) -> Any:
        """POST JSON. Every call carries an `Idempotency-Key`, so that sending it twice by accident creates one thing."""
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return self._call("POST", path, json=body, headers=headers)

    def patch(self, path: str, body: Document) -> Any:
        """PATCH JSON: only what it names changes."""
        return self._call("PATCH", path, json=body)

    def delete(self, path: str) -> None:
        """DELETE a path. Raises `NotFound`."""
        self._call("DELETE", path)

    def submit_job(self, body: Document, idempotency_key: str | None = None) -> Document:
        """Submit one job: `{"spec": {"kind": …}, "name"?, "priority"?, "resources"?}`."""
        job: Document = self.post("/v1/jobs", body, idempotency_key)
        return job

    def submit_jobs(self, bodies: list[Document], idempotency_key: str | None = None) -> list[Document]:
        """Submit up to 500 jobs, all or none: `{"id", "state", "reason"}` of each."""
        made: list[Document] = self.post("/v1/jobs/batch", {"jobs": bodies}, idempotency_key)["data"]
        return made

    def submit_pipeline(self, body: Document, idempotency_key: str | None = None) -> Document:
        """Submit a pipeline: `{"name", "jobs": {step: {"spec": …}}}`."""
        pipeline: Document = self.post("/v1/pipelines", body, idempotency_key)
        return pipeline

    def get_job(self, job_id: str) -> Document:
        """One job. Raises `NotFound`."""
        job: Document = self.get(f"/v1/jobs/{job_id}")
        return job

    def get_pipeline(self, pipeline_id: str) -> Document:
        """One pipeline with its jobs. Raises `NotFound`."""
        pipeline: Document = self.get(f"/v1/pipelines/{pipeline_id}")
        return pipeline

    def list_jobs(self, limit: int, **filters: Any) -> Iterator[Document]:
        """The newest jobs first, at most `limit`, fetched page by page. Filters: `state`, `kind`."""
        after, left = None, limit
        while left > 0:
            page = self.get("/v1/jobs", limit=min(left, 100), after=after, **filters)
            yield from page["data"]
            left -= len(page["data"])
            if not page.get("has_more"):
                return
            after = page["next"]

    def cancel_job(self, job_id: str, keep_checkpoint: bool = True) -> Document:
        """Ask a job to save and stop, or to stop without saving. Raises `NotFound`, or `Conflict` when it is over."""
        job: Document = self.post(f"/v1/jobs/{job_id}/cancel" + ("" if keep_checkpoint else "?keep_checkpoint=false"))
        return job

    def explain_job(self, job_id: str) -> Document:
        """Why a job is where it is, and what to do: `{"state", "summary", "details", "fix"}`."""
        explanation: Document = self.get(f"/v1/jobs/{job_id}/explain")
        return explanation

    def get_metrics(self, job_id: str, after: int = 0) -> list[Document]:
        """Metric points after an id, oldest first: `{"id", "name", "step", "value", "attempt", "at"}`."""
        points: list[Document] = self.get(f"/v1/jobs/{job_id}/metrics", after=after)["data"]
        return points

    def get_logs(self, job_id: str, after: Any = None) -> Document:
        """Log lines after an id: `{"data": [{"id", "rank", "text"}], "next"}`."""
        page: Document = self.get(f"/v1/jobs/{job_id}/logs", after=after)
        return page

    def upload_dataset(self, file: Path, name: str) -> Document:
        """Upload a file as a new version of the dataset `name`."""
        with file.open("rb") as content:
            dataset: Document = self._call(
                "POST",
                "/v1/datasets",
                files={"file": (file.name, content)},
                data={"name": name},
                headers={"Idempotency-Key": uuid.uuid4().hex},
            )
        return dataset

    def _call(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self._http.request(method, path, **options)
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise ServerUnreachable(
                f"{self.url} does not answer ({type(error).__name__}: {error}): is the platform up? "
                "`modelyard up` starts it, `modelyard doctor` looks for the cause"
            ) from error
        if response.is_success:
            return response.json() if response.content else None
        raise error_from_status(response.status_code, _describe(response))


def connect(data_dir: Path | None) -> Client:
    """A client of the platform in a folder, or of the one the environment names."""
    credentials = find_credentials(data_dir)
    return Client(credentials.api_url, credentials.api_key)


def _describe(response: httpx2.Response) -> str:
    """Say what a problem document (RFC 9457) says, with each wrong field on a line of its own."""
    try:
        problem = response.json()
        detail = problem.get("detail") or problem.get("title") or problem["error"]["message"]
        fields = problem.get("errors") or []
        lines = [f"  {each['field']}: {each['reason']} (given: {each.get('value')!r})" for each in fields]
        return "\n".join([str(detail), *lines])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{response.request.method} {response.request.url} answered {response.status_code}: {response.text[:500]}"


def _is_loopback(url: str) -> bool:
    try:
        return httpx2.URL(url).host in {"127.0.0.1", "localhost", "::1"}
    except httpx2.InvalidURL:
        return False

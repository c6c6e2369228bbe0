"""Routes of registered things: the same five for each type, and the upload of datasets."""

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Response, UploadFile
from fastapi.responses import PlainTextResponse

from modelyard.api.dependencies import PageDep, Platform, PlatformDep, Reader, Writer
from modelyard.api.errors import ApiError
from modelyard.api.pages import PageOf, make_page
from modelyard.api.registry.schemas import RegisteredPublic
from modelyard.api.registry.service import store_upload
from modelyard.domain.registry import repository
from modelyard.domain.registry.lineage import trace
from modelyard.domain.registry.tables import Registered
from modelyard.domain.specs.data import Name
from modelyard.kit.storage import FileTooLarge

REPORT_TYPES = {"report.html": "text/html; charset=utf-8", "report.json": "application/json"}


def make_router(type_: str, plural: str) -> APIRouter:
    """List, get, lineage and report of one type."""
    router = APIRouter(prefix=f"/v1/{plural}", tags=[plural])

    def show(row: Registered) -> RegisteredPublic:
        shown = RegisteredPublic.model_validate(row)
        shown.object = type_
        return shown

    @router.get("", name=f"list_{plural}")
    def list_all(platform: PlatformDep, caller: Reader, page: PageDep, name: str | None = None) -> PageOf[RegisteredPublic]:
        """List versions, newest first."""
        with platform.database.read() as session:
            rows = repository.list_registered(
                session, caller.project_id, type_, name=name, after=page.after, limit=page.limit + 1
            )
            return make_page(rows, page.limit, show)

    @router.get("/{reference}", name=f"get_{type_}")
    def get_one(reference: str, platform: PlatformDep, caller: Reader) -> RegisteredPublic:
        """One version, by id, `name@version`, or `name` for the newest."""
        with platform.database.read() as session:
            return show(repository.get_or_raise(session, caller.project_id, type_, reference))

    @router.get("/{reference}/lineage", name=f"get_{type_}_lineage")
    def get_lineage(reference: str, platform: PlatformDep, caller: Reader) -> dict[str, Any]:
        """Its ancestors: the job that made it, that job's inputs, and so on."""
        with platform.database.read() as session:
            row = repository.get_or_raise(session, caller.project_id, type_, reference)
            return trace(session, type_, row.id)

    @router.get("/{reference}/files/{name:path}", name=f"get_{type_}_file", response_class=PlainTextResponse)
    def get_file(reference: str, name: str, platform: PlatformDep, caller: Reader) -> Response:
        """A small text file of its artifact: `manifest.json`, `report.html`, `report.json`, …; 413 above 8 MiB."""
        with platform.database.read() as session:
            row = repository.get_or_raise(session, caller.project_id, type_, reference)
        return read_file(platform, row, name)

    return router


def read_file(platform: Platform, row: Registered, name: str) -> Response:
    """Answer with a text file of an artifact. Raises `ApiError`: 404 if there is none of that name, 413 if it is large."""
    try:
        text = platform.store.read_text(row.artifact_key, name)
    except FileTooLarge as error:
        raise ApiError(413, "file_too_large", str(error), field="name", value=name) from error
    except (OSError, ValueError) as error:  # not there, no file, no possible name, no text
        raise ApiError(404, "no_such_file", f"{row.id} has no text file {name!r}; see its manifest.json", field="name") from error
    # A report is opened in the browser: it may style itself, and do nothing else, least of all in the dashboard's name.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; base-uri 'none'; form-action 'none'"
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
    return Response(text, media_type=REPORT_TYPES.get(name, "text/plain; charset=utf-8"), headers=headers)


datasets = make_router("dataset", "datasets")
routers = [
    datasets,
    make_router("model", "models"),
    make_router("prompt", "prompts"),
    make_router("evaluation", "evaluations"),
    make_router("monitor_report", "reports"),
]


@datasets.post("", status_code=201)
def upload_dataset(
    platform: PlatformDep,
    caller: Writer,
    response: Response,
    file: Annotated[UploadFile, File(description="A jsonl, csv, txt or parquet file")],
    name: Annotated[Name, Form(description="Name of the dataset; its version is given by its content")],
) -> RegisteredPublic:
    """Upload a dataset. Every row is checked first; a malformed file leaves nothing behind."""
    row = store_upload(platform, caller.project_id, name, file.filename or "", file.file)
    response.headers["Location"] = f"/v1/datasets/{row.id}"
    shown = RegisteredPublic.model_validate(row)
    shown.object = "dataset"
    return shown

"""The API reference at `/docs`: Scalar, shipped with the package, asking nothing of any other host."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse

SCALAR = Path(__file__).parent / "static" / "vendor" / "scalar-api-reference.js"
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Modelyard API</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width"></head>
<body>
<script id="api-reference" data-url="/openapi.json"
 data-configuration='{"telemetry":false,"withDefaultFonts":false,"hideClientButton":true,
 "showDeveloperTools":"never","showToolbar":"never","agent":{"disabled":true},"mcp":{"disabled":true}}'></script>
<script src="/docs/scalar.js"></script>
</body>
</html>
"""


def add_documentation(app: FastAPI) -> None:
    """Serve the reference page and its one script."""

    @app.get("/docs", include_in_schema=False)
    def show_reference() -> HTMLResponse:
        return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})

    @app.get("/docs/scalar.js", include_in_schema=False)
    def show_script() -> FileResponse:
        return FileResponse(SCALAR, media_type="text/javascript", headers={"Cache-Control": "max-age=86400"})

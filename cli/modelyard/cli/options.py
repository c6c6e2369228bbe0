"""Options that several commands share, declared once."""

from pathlib import Path
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts on standard output.")]
ClientDataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of a platform on this machine [default: MODELYARD_URL, else ./.modelyard]."),
]
ServerDataDir = Annotated[
    Path, typer.Option("--data-dir", envvar="MODELYARD_DATA_DIR", help="Folder the platform keeps everything in.")
]

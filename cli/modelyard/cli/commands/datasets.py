"""Commands for datasets: `modelyard datasets upload FILE --name NAME`, `modelyard datasets list`."""

from pathlib import Path
from typing import Annotated

import typer

from modelyard.cli.options import ClientDataDir, JsonOption


def register(app: typer.Typer) -> None:
    """Add these commands to the `modelyard` command."""
    group = typer.Typer(help="Upload datasets and list them.", no_args_is_help=True)
    group.command("upload")(upload)
    group.command("list")(list_datasets)
    app.add_typer(group, name="datasets")


def upload(
    file: Annotated[Path, typer.Argument(help="JSON lines, CSV, Parquet or text.")],
    name: Annotated[str, typer.Option(help="Name of the dataset; uploading again makes a new version.")],
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """Upload a file as a dataset."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json
    from modelyard.cli.errors import NotFound

    if not file.is_file():
        raise NotFound(f"There is no file {file}")
    with connect(data_dir) as client:
        dataset = client.upload_dataset(file, name)
    print_json(dataset) if json else print(dataset["id"])


def list_datasets(json: JsonOption = False, data_dir: ClientDataDir = None) -> None:
    """List datasets."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json, print_table

    with connect(data_dir) as client:
        found = client.get("/v1/datasets")["data"]
    if json:
        print_json({"data": found})
        return
    print_table(("id", "name", "version"), [(each["id"], each.get("name"), each.get("version")) for each in found])

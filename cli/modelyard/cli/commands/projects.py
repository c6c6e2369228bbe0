"""`modelyard projects`: shares and quotas. They need an admin key."""

from typing import Annotated, Any

import typer

from modelyard.cli.options import ClientDataDir, JsonOption

Document = dict[str, Any]
QUOTAS = ("max_gpus", "max_queued_jobs", "max_gpu_hours_per_month")
Share = Annotated[float | None, typer.Option(help="Weight in fair share: twice the share, twice the slots under contention.")]
MaxGpus = Annotated[str | None, typer.Option(metavar="N|none", help="Slots in use at once; `none`: as many as there are.")]
MaxQueuedJobs = Annotated[str | None, typer.Option(metavar="N|none", help="Jobs that may wait; more are refused.")]
MaxHours = Annotated[str | None, typer.Option(metavar="HOURS|none", help="Slot-hours in a calendar month, UTC.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the project.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the `modelyard` command."""
    projects = typer.Typer(help="Show, make and limit projects.", no_args_is_help=True)
    projects.command("list")(list_projects)
    projects.command()(create)
    projects.command("set")(set_project)
    app.add_typer(projects, name="projects")


def list_projects(json: JsonOption = False, data_dir: ClientDataDir = None) -> None:
    """Show every project with its share, its quotas and what it uses now."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json, print_table

    found: list[Document] = []
    after: str | None = None
    with connect(data_dir) as client:
        while True:
            page = client.get("/v1/projects", limit=100, after=after)
            found += page["data"]
            after = page["next"]
            if not page["has_more"]:
                break
    if json:
        print_json({"data": found})
        return
    titles = ("project", "share", "slots in use", "waiting", "hours this month", "recent hours", "id")
    print_table(titles, [_line(project) for project in found])


def create(
    name: Name,
    share: Share = None,
    max_gpus: MaxGpus = None,
    max_queued_jobs: MaxQueuedJobs = None,
    max_gpu_hours_per_month: MaxHours = None,
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """Make a project. Then make keys for it: `modelyard keys create KEY --project NAME`."""
    from modelyard.cli.client import connect

    body = {"name": name, **read_changes(share, (max_gpus, max_queued_jobs, max_gpu_hours_per_month))}
    with connect(data_dir) as client:
        _show(client.post("/v1/projects", body), json)


def set_project(
    name: Name,
    share: Share = None,
    max_gpus: MaxGpus = None,
    max_queued_jobs: MaxQueuedJobs = None,
    max_gpu_hours_per_month: MaxHours = None,
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """Change share and quotas of a project; what is not named stays as it is."""
    from urllib.parse import quote

    from modelyard.cli.client import connect
    from modelyard.cli.errors import WrongUsage

    changes = read_changes(share, (max_gpus, max_queued_jobs, max_gpu_hours_per_month))
    if not changes:
        raise WrongUsage(f"Nothing to change: name what to set, e.g. modelyard projects set {name} --max-gpus 8")
    with connect(data_dir) as client:
        _show(client.patch(f"/v1/projects/{quote(name, safe='')}", changes), json)


def read_changes(share: float | None, quotas: tuple[str | None, ...]) -> Document:
    """The fields that were named; `none` takes a quota away. Raises `WrongUsage` for what is no number."""
    changes: Document = {} if share is None else {"share": share}
    for field, text in zip(QUOTAS, quotas, strict=True):
        if text is not None:
            changes[field] = None if text == "none" else _read_number(field, text)
    return changes


def _read_number(field: str, text: str) -> float:
    from modelyard.cli.errors import WrongUsage

    try:
        return float(text) if field == "max_gpu_hours_per_month" else int(text)
    except ValueError:
        raise WrongUsage(f"--{field.replace('_', '-')} {text!r} is no number: give one, or `none` for no limit") from None


def _show(project: Document, json: bool) -> None:
    from modelyard.cli.console import print_json

    quotas = ", ".join(f"{field} {'none' if project[field] is None else f'{project[field]:g}'}" for field in QUOTAS)
    print_json(project) if json else print(f"{project['name']}: share {project['share']:g}, {quotas}")


def _line(project: Document) -> tuple[object, ...]:
    usage = project["usage"]
    return (
        project["name"],
        f"{project['share']:g}",
        _of(usage["gpus_in_use"], project["max_gpus"]),
        _of(usage["waiting_jobs"], project["max_queued_jobs"]),
        _of(round(usage["gpu_hours_this_month"], 2), project["max_gpu_hours_per_month"]),
        f"{usage['recent_gpu_hours']:.2f}",
        project["id"],
    )


def _of(used: float, most: float | None) -> str:
    return f"{used:g}" if most is None else f"{used:g} of {most:g}"

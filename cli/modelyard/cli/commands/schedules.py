"""`modelyard schedules`: what is submitted again and again."""

from typing import Annotated, Any

import typer

from modelyard.cli.options import ClientDataDir, JsonOption

Document = dict[str, Any]
Which = Annotated[str, typer.Argument(metavar="NAME", help="Name or id of a schedule.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the `modelyard` command."""
    schedules = typer.Typer(help="Submit jobs and pipelines at set times.", no_args_is_help=True)
    schedules.command("list")(list_)
    for command in (create, pause, resume, delete, run, runs):
        schedules.command()(command)
    app.add_typer(schedules, name="schedules")


def list_(json: JsonOption = False, data_dir: ClientDataDir = None) -> None:
    """List the schedules and when each is due next."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json, print_table

    with connect(data_dir) as client:
        page = client.get("/v1/schedules", limit=200)
    if json:
        print_json(page)
        return
    rows = [(each["id"], each["name"], each["cron"], each["timezone"], _state(each)) for each in page["data"]]
    print_table(("id", "name", "cron", "timezone", "next"), rows)


def create(
    file: Annotated[str, typer.Argument(help="YAML or JSON with a schedule; `-` reads standard input.")],
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """Make a schedule {name, cron, timezone, job: {…}} or {…, pipeline: {…}}."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json
    from modelyard.cli.documents import read_schedule

    body = read_schedule(file)
    with connect(data_dir) as client:
        made = client.post("/v1/schedules", body)
    print_json(made) if json else print("\n".join([made["id"], *(f"  {time}" for time in made["next"])]))


def pause(name: Which, json: JsonOption = False, data_dir: ClientDataDir = None) -> None:
    """Leave its times out until it is resumed."""
    _change(name, {"paused": True}, json, data_dir)


def resume(name: Which, json: JsonOption = False, data_dir: ClientDataDir = None) -> None:
    """Let it go on with its next time; those that passed are not caught up."""
    _change(name, {"paused": False}, json, data_dir)


def delete(name: Which, data_dir: ClientDataDir = None) -> None:
    """Forget a schedule; what it submitted stays."""
    from modelyard.cli.client import connect

    with connect(data_dir) as client:
        client.delete(f"/v1/schedules/{name}")
    print(f"{name} is deleted")


def run(name: Which, json: JsonOption = False, data_dir: ClientDataDir = None) -> None:
    """Submit what it keeps now, outside its times."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json

    with connect(data_dir) as client:
        made = client.post(f"/v1/schedules/{name}/run")
    print_json(made) if json else print(made["job_id"] or made["pipeline_id"])


def runs(
    name: Which,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many, newest first.")] = 20,
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """List what became of its times, newest first."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json, print_table

    with connect(data_dir) as client:
        page = client.get(f"/v1/schedules/{name}/runs", limit=limit)
    if json:
        print_json(page)
        return
    print_table(("due", "submitted", "note"), [(r["at"], r["job_id"] or r["pipeline_id"], r["message"]) for r in page["data"]])


def _change(name: str, changes: Document, json: bool, data_dir: ClientDataDir) -> None:
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json

    with connect(data_dir) as client:
        schedule = client.patch(f"/v1/schedules/{name}", changes)
    state = "paused" if schedule["paused"] else f"due next at {_first(schedule['next'])}"
    print_json(schedule) if json else print(f"{schedule['name']} is {state}")


def _state(schedule: dict[str, Any]) -> str:
    if schedule["paused"]:
        return "paused"
    failed = f", failed {schedule['failures']} times: {schedule['problem']}" if schedule["failures"] else ""
    return f"{_first(schedule['next'])}{failed}"


def _first(times: list[str]) -> str:
    return times[0] if times else "never"

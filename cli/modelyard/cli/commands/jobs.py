"""Commands for jobs and pipelines: submit, jobs, watch, logs, explain, cancel, pause, resume."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.options import ClientDataDir, JsonOption

if TYPE_CHECKING:
    from modelyard.cli.client import Client

Document = dict[str, Any]
Timeout = Annotated[float | None, typer.Option(help="Give up waiting after so many seconds (exit code 124).")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="Id of a job.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the `modelyard` command."""
    for command in (submit, jobs, watch, logs, explain, cancel, pause, resume):
        app.command()(command)


def submit(
    file: Annotated[
        str, typer.Argument(help="YAML or JSON with a job, a list of jobs, or a pipeline; `-` reads standard input.")
    ],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is done; exit code 1 if it fails.")] = False,
    timeout: Timeout = None,
    idempotency_key: Annotated[str | None, typer.Option(help="Submitting again with the same key makes nothing new.")] = None,
    resume_from: Annotated[
        str | None, typer.Option(metavar="CHECKPOINT", help="Begin at this checkpoint of another job of the same model.")
    ] = None,
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """Submit a job {spec: {kind, …}}, a list of up to 500 jobs (all or none), or a pipeline {name, jobs: {…}}."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json, say
    from modelyard.cli.documents import read_submission
    from modelyard.cli.errors import WrongUsage
    from modelyard.cli.following import follow

    submission = read_submission(file)
    if submission.type == "batch" and wait:
        raise WrongUsage("--wait waits for one job or one pipeline; submit the list without it and `modelyard watch` each job")
    if resume_from is not None:
        if submission.type != "job":
            raise WrongUsage(
                f"--resume-from is for one job, and {file} holds a {submission.type}; write `resume_from` into its jobs"
            )
        submission.body["resume_from"] = resume_from
    with connect(data_dir) as client:
        if submission.type == "batch":
            return _show_batch(client.submit_jobs(submission.body["jobs"], idempotency_key), json)
        send = client.submit_job if submission.type == "job" else client.submit_pipeline
        thing = send(submission.body, idempotency_key)
        say(f"submitted {submission.type} {thing['id']}")
        if not wait:
            print_json(thing) if json else print(thing["id"])
            return
        _report(client, follow(client, thing["id"], timeout), json)


def _show_batch(made: list[Document], json: bool) -> None:
    from modelyard.cli.console import print_json, say

    say(f"submitted {len(made)} jobs")
    print_json({"data": made}) if json else print("\n".join(job["id"] for job in made))


def watch(job_id: JobId, timeout: Timeout = None, json: JsonOption = False, data_dir: ClientDataDir = None) -> None:
    """Show live progress of a job or a pipeline until it is done."""
    from modelyard.cli.client import connect
    from modelyard.cli.following import follow

    with connect(data_dir) as client:
        _report(client, follow(client, job_id, timeout), json)


def jobs(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only jobs of this kind.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """List jobs, newest first."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json, print_table
    from modelyard.cli.progress import name_of, state_of

    with connect(data_dir) as client:
        found = list(client.list_jobs(limit, state=state, kind=kind))
    if json:
        print_json({"data": found})
        return
    rows = [
        (
            job["id"],
            job["kind"],
            name_of(job),
            state_of(job),
            f"{100 * job['progress']:.0f} %",
            job["reason"],
            job["queue"],
        )
        for job in found
    ]
    print_table(("id", "kind", "name", "state", "done", "reason", "queue"), rows)


def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the job is done.")] = False,
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """Print what a job wrote to its log."""
    from modelyard.cli.client import connect
    from modelyard.cli.following import print_logs

    with connect(data_dir) as client:
        print_logs(client, job_id, follow, json)


def explain(job_id: JobId, json: JsonOption = False, data_dir: ClientDataDir = None) -> None:
    """Say why a job waits, runs or failed, and what to do about it."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json, results
    from modelyard.cli.explanations import say_explanation

    with connect(data_dir) as client:
        found = client.explain_job(job_id)
    if json:
        print_json(found)
        return
    results().print("\n".join(say_explanation(found)), markup=False, soft_wrap=True)


def cancel(
    job_id: JobId,
    discard: Annotated[bool, typer.Option("--discard", help="End it without saving, and remove its checkpoints.")] = False,
    json: JsonOption = False,
    data_dir: ClientDataDir = None,
) -> None:
    """Ask a job to save and stop."""
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json

    with connect(data_dir) as client:
        job = client.cancel_job(job_id, keep_checkpoint=not discard)
    print_json(job) if json else print(f"{job['id']} is {job['state']}")


def pause(job_id: JobId, json: JsonOption = False, data_dir: ClientDataDir = None) -> None:
    """Stop a job until it is resumed: at once if it waits, after saving if it runs."""
    _ask("pause", job_id, json, data_dir)


def resume(job_id: JobId, json: JsonOption = False, data_dir: ClientDataDir = None) -> None:
    """Let a paused job go on from its checkpoint."""
    _ask("resume", job_id, json, data_dir)


def _ask(what: str, job_id: str, json: bool, data_dir: ClientDataDir) -> None:
    from modelyard.cli.client import connect
    from modelyard.cli.console import print_json

    with connect(data_dir) as client:
        job = client.post(f"/v1/jobs/{job_id}/{what}")
    print_json(job) if json else print(f"{job['id']} is {job['state']}")


def _report(client: "Client", thing: Document, json: bool) -> None:
    """Print the end of a job or pipeline, and leave with exit code 1 unless it succeeded."""
    from modelyard.cli.console import format_figures, print_json, print_table
    from modelyard.cli.following import explain_failure
    from modelyard.cli.progress import name_of, state_of

    if json:
        print_json(thing)
    else:
        members = thing.get("jobs") or [thing]
        rows = [(name_of(job), state_of(job), job["id"], format_figures(job.get("figures") or {})) for job in members]
        print_table(("job", "state", "id", "figures"), rows)
    explain_failure(client, thing)

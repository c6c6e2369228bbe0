"""Run every check of `modelyard doctor` and report."""

from pathlib import Path

from pydantic import SecretStr

from modelyard.cli.console import print_json, print_table
from modelyard.cli.doctor.checks import (
    Finding,
    check_disk,
    check_gpus,
    check_http,
    check_queues,
    check_the_broker,
    check_the_database,
)
from modelyard.cli.errors import CommandError, NotFound
from modelyard.cli.platform.record import read_record
from modelyard.kit.settings import Settings


def report(data_dir: Path, as_json: bool) -> None:
    """Print every finding. Raises `CommandError` if one is an error."""
    findings = examine(data_dir)
    has_errors = any(finding.status == "error" for finding in findings)
    if as_json:
        print_json({"ok": not has_errors, "checks": [vars(finding) for finding in findings]})
    else:
        rows = [(finding.status, finding.check, finding.message, finding.fix) for finding in findings]
        print_table(("status", "check", "found", "what to do"), rows)
    if has_errors:
        raise CommandError("something is wrong: see above")


def examine(data_dir: Path) -> list[Finding]:
    """Look at the platform of a data directory, or at the one the environment names. Raises `NotFound`."""
    settings, record = Settings(data_dir=data_dir.resolve()), read_record(data_dir.resolve())
    start = f"start it with `modelyard up --data-dir {data_dir}`"
    if record is None and settings.database_url is None:
        raise NotFound(f"There is no platform in {data_dir.resolve()}: {start}, or set MODELYARD_DATABASE_URL")
    findings: list[Finding] = []
    if record is not None:
        findings += check_http("api", f"{record.api_url}/healthz", start)
        findings += check_http("flower", f"{record.flower_url}/healthcheck", start)
        if "redis_url" not in settings.model_fields_set:
            url = f"redis://:{record.broker_password}@127.0.0.1:{record.broker_port}/0"
            settings = settings.model_copy(update={"redis_url": SecretStr(url)})
    findings += check_the_broker(settings) + check_the_database(settings) + check_queues(settings)
    return findings + check_disk(data_dir) + check_gpus()

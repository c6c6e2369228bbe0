"""`modelyard doctor --check-invariants`: ask the platform whether what should always hold does."""

from pathlib import Path

from modelyard.cli.client import Client, Document
from modelyard.cli.console import print_json, print_table, say
from modelyard.cli.credentials import find_credentials
from modelyard.cli.errors import CommandError

EXAMINATION_SECONDS = 900.0
"""A thorough look reads every artifact there is."""


def report_invariants(data_dir: Path | None, is_deep: bool, as_json: bool) -> None:
    """Print what is wrong. Raises `CommandError` (exit code 1) if anything is."""
    credentials = find_credentials(data_dir)
    with Client(credentials.api_url, credentials.api_key, timeout_seconds=EXAMINATION_SECONDS) as client:
        document: Document = client.get("/v1/invariants", deep=is_deep)
    print_json(document) if as_json else _show(document)
    if not document["ok"]:
        raise CommandError(f"{len(document['violations'])} invariants are violated: please report this with the jobs' events")


def _show(document: Document) -> None:
    rows = [(each["invariant"], each["job_id"], each["message"]) for each in document["violations"]]
    if rows:
        print_table(("invariant", "id", "what is wrong"), rows)
    looked_at = ", ".join(f"{number} {what}" for what, number in document["checked"].items())
    say(f"looked at {looked_at}" + "".join(f"; not looked at: {each}" for each in document["skipped"]))

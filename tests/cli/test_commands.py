"""The command as scripts see it: exit codes, one message, no traceback, and a quick `--help`."""

import json
import socket
import subprocess
import sys
import time

import pytest

from tests.cli.conftest import Run

HEAVY = ("torch", "sqlalchemy", "celery", "fastapi", "transformers", "httpx2", "rich.console")


class TestHelp:
    def test_lists_every_command(self, modelyard: Run) -> None:
        done = modelyard("--help")
        assert done.returncode == 0
        for command in (
            "up",
            "down",
            "quickstart",
            "submit",
            "watch",
            "explain",
            "worker",
            "scheduler",
            "api",
            "flower",
            "doctor",
        ):
            assert f"  {command} " in done.stdout

    def test_imports_nothing_heavy(self) -> None:
        code = f"import sys, modelyard.cli.main; print([name for name in {HEAVY!r} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_answers_within_half_a_second(self, modelyard: Run) -> None:
        def measure() -> float:
            started = time.perf_counter()
            modelyard("--help")
            return time.perf_counter() - started

        assert min(measure() for _ in range(5)) < 0.5


class TestErrors:
    def test_no_platform(self, modelyard: Run) -> None:
        done = modelyard("jobs")
        assert done.returncode == 6
        assert "modelyard up" in done.stderr
        assert "Traceback" not in done.stderr

    def test_unreachable_server(self, modelyard: Run) -> None:
        with socket.socket() as probe:  # bound, but nobody listens
            probe.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{probe.getsockname()[1]}"
            done = modelyard("jobs", MODELYARD_URL=url, MODELYARD_API_KEY="my_key")
        assert done.returncode == 6
        assert url in done.stderr
        assert "Traceback" not in done.stderr

    def test_missing_key(self, modelyard: Run) -> None:
        done = modelyard("jobs", MODELYARD_URL="http://127.0.0.1:1")
        assert done.returncode == 4
        assert "MODELYARD_API_KEY" in done.stderr

    @pytest.mark.parametrize(
        ("argument", "key", "shown"), [("\udc80", "my_key", r"'\udc80'"), ("job_1", "my_ü_secret", r"'\xfc'")]
    )
    def test_what_cannot_be_sent(self, modelyard: Run, argument: str, key: str, shown: str) -> None:
        done = modelyard("explain", argument, MODELYARD_URL="http://127.0.0.1:1", MODELYARD_API_KEY=key)
        assert (done.returncode, "Traceback" in done.stderr, "secret" in done.stderr) == (2, False, False), done.stderr
        assert shown in done.stderr

    @pytest.mark.parametrize(
        ("arguments", "exit_code", "mentions"),
        [
            (("submit", "nowhere.yaml"), 3, "nowhere.yaml"),
            (("datasets", "upload", "nowhere.csv", "--name", "x"), 3, "nowhere.csv"),
            (("down", "--data-dir", "nowhere"), 3, "nowhere"),
            (("doctor", "--data-dir", "nowhere"), 3, "nowhere"),
            (("worker", "--stages", "dancing"), 2, "dancing"),
            (("worker", "--stages", "deploy", "--gpus", "all"), 2, "all"),
            (("up", "--workers", "dancing"), 2, "dancing"),
            (("flower",), 2, "MODELYARD_FLOWER_PASSWORD"),
            (("jobs", "--limit", "none"), 2, "--limit"),
            (("keys", "create", "me", "--scopes", "dance"), 2, "dance"),
        ],
    )
    def test_names_the_thing_and_its_exit_code(
        self, modelyard: Run, arguments: tuple[str, ...], exit_code: int, mentions: str
    ) -> None:
        done = modelyard(*arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (exit_code, False), done.stderr
        assert mentions in done.stderr

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("MODELYARD_API_PORT", "eighty"),
            ("MODELYARD_DATABASE_URL", "postgresql+psycopg://me@127.0.0.1:1/nothing"),
            ("MODELYARD_DATABASE_URL", "nonsense"),
        ],
    )
    def test_wrong_settings(self, modelyard: Run, name: str, value: str) -> None:
        done = modelyard("migrate", **{name: value})
        assert done.returncode in {1, 2}
        assert name in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_folder_that_cannot_be(self, modelyard: Run) -> None:
        done = modelyard("up", "--data-dir", "/dev/null/yard")
        assert done.returncode == 1
        assert done.stderr.startswith("modelyard: /dev/null")

    @pytest.mark.parametrize("document", ["[1, 2]", "a: {", "name: only", "kind: prepare\nspec: {kind: import}"])
    def test_documents_that_are_no_job(self, modelyard: Run, document: str) -> None:
        done = modelyard("submit", "-", stdin=document)
        assert done.returncode == 2
        assert "standard input" in done.stderr


class TestVersion:
    def test_as_json(self, modelyard: Run) -> None:
        assert set(json.loads(modelyard("version", "--json").stdout)) == {"version"}


class TestKeys:
    def test_are_made_in_the_database_and_printed_once(self, modelyard: Run) -> None:
        assert modelyard("migrate").returncode == 0
        first, second = (json.loads(modelyard("keys", "create", "ci", "--scopes", "read", "--json").stdout) for _ in range(2))
        assert first["scopes"] == ["read"]
        assert first["api_key"] != second["api_key"]

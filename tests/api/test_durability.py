"""A kill in the middle of a storm of submits: whatever was answered with 2xx is in the database, and can be run once."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from factories import Factory, spec_of
from servers import free_port
from sqlmodel import func, select

from modelyard.domain.jobs.ownership import claim
from modelyard.domain.jobs.tables import Job, JobEvent
from modelyard.domain.projects.repository import create_key
from modelyard.kit.database import Database

CLIENTS = 8
ENOUGH = 150
"""Answers after which the kill comes."""


def start_api(url: str, folder: Path, port: int) -> "subprocess.Popen[bytes]":
    """The API as a process of its own."""
    environment = {
        **os.environ,
        "MODELYARD_DATABASE_URL": url,
        "MODELYARD_DATA_DIR": str(folder),
        "MODELYARD_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "MODELYARD_LOG_LEVEL": "ERROR",
    }
    return subprocess.Popen([sys.executable, "-m", "modelyard.cli", "api", "--port", str(port)], env=environment)


def storm(port: int, key: str, answered: list[str], until: threading.Event) -> None:
    """Submit singly and in batches until the server is gone."""
    headers = {"Authorization": f"Bearer {key}"}
    body: dict[str, Any] = {"spec": spec_of("import")}
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=30) as client:
        while not until.is_set():
            try:
                single = client.post("/v1/jobs", json=body)
                batch = client.post("/v1/jobs/batch", json={"jobs": [body] * 3})
            except httpx2.TransportError:
                if until.is_set():
                    return
                time.sleep(0.05)  # it is still starting
                continue
            for response in (single, batch):
                assert response.status_code == 202, response.text
            answered.append(single.json()["id"])
            answered.extend(each["id"] for each in batch.json()["data"])


@pytest.fixture
def key(factory: Factory) -> str:
    """A key."""
    with factory.database.write() as session:
        return create_key(session, factory.project_id, "storm", ("write",))[1]


def test_every_answer_is_kept_through_a_kill(factory: Factory, database_url: str, tmp_path: Path, key: str) -> None:
    port, answered, is_over = free_port(), list[str](), threading.Event()
    api = start_api(database_url, tmp_path, port)
    threads = [threading.Thread(target=storm, args=(port, key, answered, is_over)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 120
    while len(answered) < ENOUGH and time.monotonic() < deadline and psutil.pid_exists(api.pid):
        time.sleep(0.005)
    api.send_signal(signal.SIGKILL)
    is_over.set()
    api.wait()
    for thread in threads:
        thread.join()
    assert len(answered) >= ENOUGH
    known = factory.find(select(Job.id))
    assert set(answered) <= set(known)
    assert len(set(answered)) == len(answered)
    # All or nothing, event included; and each is claimed once.
    assert factory.find(select(func.count()).select_from(JobEvent)) == [len(known)]
    assert sorted(claim_all(factory.database)) == sorted(known)


def claim_all(database: Database) -> list[str]:
    """Ids of jobs in the order they are claimed."""
    claimed = []
    while True:
        with database.write() as session:
            job = claim(session, "prepare", "train@host", ["cpu-0"], 30.0)
        if job is None:
            return claimed
        claimed.append(job.id)

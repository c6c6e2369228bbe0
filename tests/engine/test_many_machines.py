"""The commands compose.yaml names, as processes, against Debian's Redis and PostgreSQL: what runs on many machines."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
import yaml
from redis import Redis
from redis.exceptions import RedisError

from modelyard.cli.client import Client
from tests.engine.conftest import CORPUS, TINY, wait_for

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
SECRETS = {"POSTGRES_PASSWORD": "pg-secret", "REDIS_PASSWORD": "redis-secret", "MODELYARD_FLOWER_PASSWORD": "flower-secret"}
STARTED = ["api", "scheduler", "flower", "prepare", "pretrain"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("redis-server") and POSTGRES), reason="needs: apt-get install redis-server postgresql"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Cluster:
    """The services of compose.yaml, on loopback ports of their own."""

    folder: Path
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in ("postgres", "redis", "api", "flower")})
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def environment(self, service: str) -> dict[str, str]:
        """A service's variables, with compose's substitutions and this machine's addresses."""
        text = {key: str(value) for key, value in SERVICES[service].get("environment", {}).items()}
        filled = {key: re.sub(r"\$\{(\w+)[^}]*\}", lambda match: SECRETS.get(match[1], ""), value) for key, value in text.items()}
        here = {
            "@postgres/": f"@127.0.0.1:{self.ports['postgres']}/",
            "@redis:6379": f"@127.0.0.1:{self.ports['redis']}",
        }
        for there, ours in here.items():
            filled = {key: value.replace(there, ours) for key, value in filled.items()}
        more = {
            "MODELYARD_DATA_DIR": str(self.folder / service),
            "MODELYARD_ARTIFACTS_URL": str(self.folder / "artifacts"),
            "MODELYARD_LOG_LEVEL": "INFO",
            "MODELYARD_FLOWER_USER": "modelyard",
            "OMP_NUM_THREADS": "1",
        }
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("MODELYARD_", "FLOWER_"))}
        return {**clean, **filled, **more}

    def command(self, service: str) -> list[str]:
        """A service's very command; only addresses and ports are this machine's."""
        words = [str(word).replace("0.0.0.0", "127.0.0.1") for word in SERVICES[service]["command"]]
        if "--port" in words:
            words[words.index("--port") + 1] = str(self.ports[service])
        return [sys.executable, "-m", "modelyard.cli", *words]

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder))

    def start_redis(self) -> None:
        (self.folder / "redis").mkdir()
        script = SERVICES["redis"]["command"][2].replace("$$", "$")
        script = script.replace("valkey-server", "exec redis-server").replace("/data", str(self.folder / "redis"))
        script = script.replace("requirepass", f"port {self.ports['redis']}\\nbind 127.0.0.1\\nrequirepass")
        script = re.sub(r"printf (.*) \| (exec redis-server) -", r"printf \1 > redis.conf; \2 redis.conf", script)
        self.start("redis", ["sh", "-c", script], {**os.environ, **SECRETS})
        wait_for(self.redis_answers, "Redis to answer")

    def redis_answers(self) -> bool:
        try:
            return bool(Redis(port=self.ports["redis"], password=SECRETS["REDIS_PASSWORD"]).ping())
        except RedisError:
            return False

    def start_postgres(self) -> None:
        # PostgreSQL refuses to run as root; Debian's package brings a user for it.
        as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        bin_folder, data = POSTGRES[-1].parent, self.folder / "postgres"
        data.mkdir()
        (data / "password").write_text(SECRETS["POSTGRES_PASSWORD"])
        if as_user:
            for folder in (self.folder, *list(self.folder.parents)[:2]):
                folder.chmod(0o755)
            shutil.chown(data, "postgres")
            shutil.chown(data / "password", "postgres")
        made = [bin_folder / "initdb", "-D", data / "db", "-U", "modelyard", "-A", "scram-sha-256", f"--pwfile={data}/password"]
        subprocess.run([*as_user, *map(str, made)], check=True, capture_output=True, cwd=data)
        options = ["-p", str(self.ports["postgres"]), "-k", str(data), "-c", "listen_addresses=127.0.0.1"]
        self.start("postgres", [*as_user, str(POSTGRES[-1]), "-D", str(data / "db"), *options], dict(os.environ))
        environment = {**os.environ, "PGPASSWORD": SECRETS["POSTGRES_PASSWORD"]}
        create = [bin_folder / "createdb", "-h", "127.0.0.1", "-p", self.ports["postgres"], "-U", "modelyard", "modelyard"]
        words = [str(word) for word in create]
        wait_for(lambda: subprocess.run(words, env=environment, capture_output=True).returncode == 0, "PostgreSQL to answer")

    def stop(self) -> None:
        for process in reversed(self.processes):
            for member in [*psutil.Process(process.pid).children(), psutil.Process(process.pid)]:
                member.terminate()
            process.wait(timeout=90)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        made.start_redis()
        made.start_postgres()
        migrated = subprocess.run(made.command("migrations"), env=made.environment("migrations"), capture_output=True, text=True)
        assert migrated.returncode == 0, migrated.stderr
        for service in STARTED:
            made.start(service, made.command(service), made.environment(service))
        yield made
    finally:
        made.stop()


def answers(url: str, **options: Any) -> Callable[[], bool]:
    def look() -> bool:
        try:
            return httpx2.get(url, timeout=10, **options).status_code == 200
        except httpx2.HTTPError:
            return False

    return look


class TestCompose:
    def test_its_commands_train_a_model_on_redis_and_postgresql(self, cluster: Cluster) -> None:
        made = subprocess.run(
            [sys.executable, "-m", "modelyard.cli", "keys", "create", "admin"],
            env=cluster.environment("api"),
            capture_output=True,
            text=True,
            check=True,
        )
        url = f"http://127.0.0.1:{cluster.ports['api']}"
        wait_for(answers(f"{url}/healthz"), "the API to answer")
        client = Client(url, made.stdout.strip())
        steps = {
            "corpus": {"spec": CORPUS},
            "model": {"spec": {**TINY, "dataset": "${corpus}", "steps": 20, "evaluate_every": 10}, "resources": {"slots": 2}},
        }
        pipeline = client.submit_pipeline({"name": "compose", "jobs": steps})
        done = wait_for(lambda: self.settled(client, pipeline["id"]), "the pipeline to finish", seconds=240)
        assert done["state"] == "succeeded", [job["message"] for job in done["jobs"]]
        assert client.get("/v1/models", name="tiny")["data"][0]["version"] == 1
        health = client.get("/v1/health")
        assert (health["database"], health["broker"], health["workers_online"]) == ("ok", "ok", 2)
        login = ("modelyard", SECRETS["MODELYARD_FLOWER_PASSWORD"])
        flower = f"http://127.0.0.1:{cluster.ports['flower']}"
        assert httpx2.get(f"{flower}/api/tasks").status_code == 401
        tasks = httpx2.get(f"{flower}/api/tasks", auth=login, timeout=30).json().values()
        assert {task["worker"].split("@")[0] for task in tasks if task["state"] == "SUCCESS"} == {"prepare", "pretrain"}

    def settled(self, client: Client, pipeline_id: str) -> Any:
        pipeline = client.get_pipeline(pipeline_id)
        return pipeline if pipeline["state"] != "running" else None

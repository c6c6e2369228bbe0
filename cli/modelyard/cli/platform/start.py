"""`modelyard up`: start a platform on this machine and watch over it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from modelyard.cli.console import say
from modelyard.cli.credentials import Credentials, read_credentials, write_credentials
from modelyard.cli.errors import CommandError
from modelyard.cli.platform.broker import check_broker
from modelyard.cli.platform.groups import choose_groups, count_gpus
from modelyard.cli.platform.leftovers import end_processes
from modelyard.cli.platform.plan import Plan
from modelyard.cli.platform.ports import choose_port, open_listener
from modelyard.cli.platform.record import Record, hold_platform, open_folder, read_record
from modelyard.cli.platform.signals import Signals
from modelyard.cli.platform.supervisor import StopRequested, Supervisor
from modelyard.domain.migrations import migrate
from modelyard.domain.projects.repository import create_key, find_caller, get_or_create_project
from modelyard.kit.broker import Broker, BrokerErrors
from modelyard.kit.database import Database
from modelyard.kit.settings import Settings

Document = dict[str, Any]
Announce = Callable[[Document, bool], None]


@dataclass(frozen=True)
class UpOptions:
    """What `modelyard up` was asked for."""

    data_dir: Path
    port: int | None = None
    """None: the port of the last start, else the settings' one, else the next free one."""
    workers: str = "all"


def run_platform(options: UpOptions, announce: Announce) -> None:
    """Start everything, announce it when all answer, and stay until asked to stop.

    `announce` gets the ready document and whether the key was made just now. Raises `Conflict` when the data directory
    already has a platform or the port is taken, `StartFailed` when a process does not come up.
    """
    groups = choose_groups(options.workers)
    data_dir = options.data_dir.resolve()
    with hold_platform(data_dir):
        record = _prepare_record(data_dir)
        plan, listener = _make_plan(data_dir, record, options.port)
        try:
            _supervise(plan, listener, groups, announce)
        finally:
            listener.close()


def _prepare_record(data_dir: Path) -> Record:
    """What the platform remembers; processes a killed supervisor left behind are ended first."""
    record = read_record(data_dir) or Record()
    left = end_processes(record.platform_id, record.processes.values(), Settings(data_dir=data_dir).stop_grace_seconds)
    if left:
        say(f"ended {left} processes an earlier start left behind", "yellow")
    record.processes = {}
    return record


def _make_plan(data_dir: Path, record: Record, port: int | None) -> tuple[Plan, socket.socket]:
    """Fix ports and settings. The caller closes the socket. Raises `Conflict`."""
    settings = Settings(data_dir=data_dir)
    record.api_host = settings.api_host
    given = settings.model_fields_set
    usual = settings.api_port if "api_port" in given else record.api_port or settings.api_port
    listener = open_listener(settings.api_host, usual if port is None else port, is_asked_for=port is not None)
    record.api_port = listener.getsockname()[1]
    record.flower_port = choose_port(settings.flower_port if "flower_port" in given else record.flower_port)
    has_own_broker = "redis_url" not in given
    if has_own_broker:
        record.broker_port = choose_port(record.broker_port)
        url = f"redis://:{record.broker_password}@127.0.0.1:{record.broker_port}/0"
        settings = settings.model_copy(update={"redis_url": SecretStr(url)})
    if settings.flower_password is not None:
        record.flower_password = settings.flower_password.get_secret_value()
    record.flower_user = settings.flower_user
    record.save(data_dir)
    return Plan(data_dir, settings, record, has_own_broker), listener


def _supervise(plan: Plan, listener: socket.socket, groups: list[str], announce: Announce) -> None:
    def remember(processes: dict[str, tuple[int, float]]) -> None:
        plan.record.processes = processes
        plan.record.save(plan.data_dir)

    with Signals() as signals:
        supervisor = Supervisor(plan.data_dir / "logs", signals, remember)
        try:
            supervisor.start(plan.broker())
            supervisor.wait_ready()
            _check_broker(plan.settings)
            key, is_new = prepare_database(plan)
            gpus = count_gpus()
            supervisor.start([plan.api(listener.fileno()), plan.scheduler(), plan.flower()])
            supervisor.start(plan.workers(groups, gpus, key))
            supervisor.wait_ready()
            announce(describe(plan.data_dir, plan.record, key), is_new)
            supervisor.run()
        except StopRequested:
            pass
        finally:
            _stop_in_order(plan, supervisor, signals, groups)


def _stop_in_order(plan: Plan, supervisor: Supervisor, signals: Signals, groups: list[str]) -> None:
    """Workers first, so that what their jobs saved is recorded; the broker last, because all others talk to it."""
    say("stopping: running jobs save and leave first")
    supervisor.stop(groups)
    for name in ("scheduler", "api", "flower", "valkey"):
        supervisor.stop([name])
    # What a worker left behind that had been killed before.
    grace = plan.settings.stop_grace_seconds if signals.stop_requests < 2 else 0.0
    end_processes(plan.record.platform_id, plan.record.processes.values(), grace)
    plan.record.processes = {}
    plan.record.save(plan.data_dir)
    say("stopped")


def prepare_database(plan: Plan) -> tuple[str, bool]:
    """Bring the tables up to date and make sure this machine has an admin key; return it and whether it is new."""
    migrate(plan.settings.database)
    database = Database(plan.settings.database)
    try:
        with database.write() as session:
            project = get_or_create_project(session)
            known = read_credentials(plan.data_dir)
            is_new = known is None or find_caller(session, known.api_key) is None
            key = create_key(session, project.id, "modelyard up")[1] if is_new or known is None else known.api_key
    finally:
        database.dispose()
    write_credentials(plan.data_dir, Credentials(plan.record.api_url, key))
    return key, is_new


def _check_broker(settings: Settings) -> None:
    try:
        described = Broker(settings).describe()
    except BrokerErrors as error:
        raise CommandError(
            f"The broker of MODELYARD_REDIS_URL does not answer ({error}): start it, or unset it to use ours"
        ) from error
    faults = check_broker(described["server"], described["version"], described["maxmemory_policy"])
    if faults:
        raise CommandError("The broker cannot be used: " + "; ".join(faults))


def describe(data_dir: Path, record: Record, key: str) -> Document:
    """The ready document scripts rely on."""
    return {
        "api_url": record.api_url,
        "api_key": key,
        "flower_url": record.flower_url,
        "flower_user": record.flower_user,
        "flower_password": record.flower_password,
        "dashboard_url": f"{record.api_url}/",
        "data_dir": str(data_dir),
        "pids": {"up": os.getpid(), **{name: pid for name, (pid, _) in record.processes.items()}},
    }


def start_detached(options: UpOptions) -> tuple[Document, bool]:
    """Start a platform that outlives this command; return what `announce` takes. Raises what went wrong there."""
    data_dir = options.data_dir.resolve()
    known = read_credentials(data_dir)
    open_folder(data_dir)
    (data_dir / "logs").mkdir(exist_ok=True)
    # Quiet: its messages end up in a log, which is no place for a key.
    command = [sys.executable, "-m", "modelyard.cli", "up", "--data-dir", str(data_dir), "--workers", options.workers]
    command += ["--json", "--quiet", *([] if options.port is None else ["--port", str(options.port)])]
    log = data_dir / "logs" / "up.log"
    with log.open("ab") as messages:
        begins_at = messages.tell()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages, start_new_session=True, text=True
        )
    line = process.stdout.readline() if process.stdout else ""
    if line:
        document: Document = json.loads(line)
        return document, known is None or known.api_key != document["api_key"]
    error = CommandError(_last_words(log, begins_at))
    error.exit_code = process.wait() or 1
    raise error


def _last_words(log: Path, begins_at: int) -> str:
    with log.open("rb") as file:
        file.seek(begins_at)
        text = file.read().decode(errors="replace").strip()
    _, found, message = text.rpartition("modelyard: ")
    return message if found else f"the platform did not start; see {log}:\n{text[-2000:]}"

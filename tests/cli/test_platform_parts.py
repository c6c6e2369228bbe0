"""Parts of `modelyard up`: the lock, what is remembered, ports, the broker, worker groups."""

import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.cli.credentials import Credentials, find_credentials, read_credentials, write_credentials
from modelyard.cli.errors import Conflict, WrongUsage
from modelyard.cli.platform.broker import check_broker, find_valkey, parse_version, write_config
from modelyard.cli.platform.groups import WORKER_GROUPS, choose_groups
from modelyard.cli.platform.ports import choose_port, open_listener
from modelyard.cli.platform.readiness import answers_ping
from modelyard.cli.platform.record import Record, find_supervisor, hold_platform, read_record
from modelyard.cli.worker_options import parse_gpus
from modelyard.domain.specs.registry import STAGES


class TestRecord:
    def test_survives_a_restart(self, tmp_path: Path) -> None:
        record = Record(api_port=8080, processes={"api": (17, 1.5)})
        record.save(tmp_path)
        assert read_record(tmp_path) == record

    def test_keeps_passwords_private(self, tmp_path: Path) -> None:
        Record().save(tmp_path)
        write_credentials(tmp_path, Credentials("http://127.0.0.1:1", "my_key"))
        for name in ("platform.json", "credentials.json"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600

    def test_a_torn_file_is_no_record(self, tmp_path: Path) -> None:
        (tmp_path / "platform.json").write_text('{"platform_id": "a')
        (tmp_path / "credentials.json").write_text("[]")
        assert read_record(tmp_path) is None
        assert read_credentials(tmp_path) is None


class TestLock:
    def test_only_one_supervisor(self, tmp_path: Path) -> None:
        Record(api_port=8123).save(tmp_path)
        holder = f"""
from pathlib import Path
from modelyard.cli.platform.record import hold_platform
with hold_platform(Path({str(tmp_path)!r})):
    print("held", flush=True)
    input()
"""
        with subprocess.Popen(
            [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            assert find_supervisor(tmp_path) == process.pid
            with pytest.raises(Conflict, match=r"already running.*http://127\.0\.0\.1:8123"), hold_platform(tmp_path):
                pass
            process.kill()  # the kernel gives the lock back
            process.wait()
            assert find_supervisor(tmp_path) is None
            with hold_platform(tmp_path):
                pass


class TestPorts:
    def test_the_next_free_port_is_taken(self) -> None:
        with open_listener("127.0.0.1", 0, is_asked_for=False) as taken:
            port = taken.getsockname()[1]
            with open_listener("127.0.0.1", port, is_asked_for=False) as next_one:
                assert port < next_one.getsockname()[1] <= port + 100

    def test_a_port_that_was_asked_for_is_not_replaced(self) -> None:
        with open_listener("127.0.0.1", 0, is_asked_for=True) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(Conflict, match=str(port)):
                open_listener("127.0.0.1", port, is_asked_for=True)

    def test_the_old_port_is_kept_where_it_is_free(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            taken = probe.getsockname()[1]
            assert choose_port(taken) != taken
        assert choose_port(taken) == taken


class TestBroker:
    def test_the_embedded_one_answers_with_its_password_only(self, tmp_path: Path) -> None:
        folder = tmp_path / 'with "quotes" and spaces'
        port = choose_port(0)
        config = write_config(folder, port, "secret-1")
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        log = (tmp_path / "valkey.log").open("wb")
        with log, subprocess.Popen([str(find_valkey()), str(config)], stdout=log) as server:
            try:
                while not answers_ping(f"redis://:secret-1@127.0.0.1:{port}/0"):
                    assert server.poll() is None, (tmp_path / "valkey.log").read_text()
                assert not answers_ping(f"redis://:wrong@127.0.0.1:{port}/0")
                assert not answers_ping(f"redis://127.0.0.1:{port}/0")
            finally:
                server.terminate()
        assert (folder / "appendonlydir").is_dir()

    @pytest.mark.parametrize(
        ("server", "version", "policy", "mentions"),
        [
            ("redis", "7.2.11", "noeviction", None),
            ("redis", "8.0.0", "noeviction", None),
            ("redis", "7.2.9", "noeviction", "7.2.11"),
            ("redis", "6.2.20", "noeviction", "7.2.11"),
            ("valkey", "8.1.4", "noeviction", None),
            ("valkey", "8.1.3", "noeviction", "8.1.4"),
            ("valkey", "9.1.2", "allkeys-lru", "noeviction"),
        ],
    )
    def test_versions_and_policy(self, server: str, version: str, policy: str, mentions: str | None) -> None:
        faults = check_broker(server, version, policy)
        assert bool(faults) == (mentions is not None)
        assert mentions is None or mentions in faults[0]

    def test_versions_compare_as_numbers(self) -> None:
        assert parse_version("7.2.11-rc1") == (7, 2, 11)


class TestGroups:
    def test_every_stage_is_served_once(self) -> None:
        assert sorted(stage for stages in WORKER_GROUPS.values() for stage in stages) == sorted(STAGES)

    @pytest.mark.parametrize(
        ("wished", "groups"), [("all", list(WORKER_GROUPS)), ("none", []), ("judge, data", ["judge", "data"])]
    )
    def test_choose(self, wished: str, groups: list[str]) -> None:
        assert choose_groups(wished) == groups

    @pytest.mark.parametrize(("text", "gpus"), [("", ()), ("0", (0,)), ("0,2-4", (0, 2, 3, 4)), ("1-2,2", (1, 2))])
    def test_gpu_lists(self, text: str, gpus: tuple[int, ...]) -> None:
        assert parse_gpus(text) == gpus

    def test_unknown_group(self) -> None:
        with pytest.raises(WrongUsage, match="dancing"):
            choose_groups("data,dancing")


class TestCredentials:
    def test_a_folder_that_was_named_wins(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_credentials(tmp_path, Credentials("http://127.0.0.1:1", "my_folder"))
        monkeypatch.setenv("MODELYARD_URL", "http://elsewhere/")
        monkeypatch.setenv("MODELYARD_API_KEY", "my_environment")
        assert find_credentials(tmp_path).api_key == "my_folder"
        assert find_credentials() == Credentials("http://elsewhere", "my_environment")

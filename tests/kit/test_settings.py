"""Settings come from the environment, and secrets stay out of what is printed."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from modelyard.kit.identifiers import new_id, new_secret
from modelyard.kit.settings import Settings


class TestRead:
    def test_defaults_lie_below_the_data_directory(self, settings: Settings) -> None:
        assert settings.database == f"sqlite:///{settings.data_dir}/modelyard.db"
        assert settings.artifacts == str(settings.data_dir / "artifacts")
        assert settings.import_root == settings.data_dir / "import"

    def test_the_environment_wins(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MODELYARD_DATABASE_URL", "postgresql+psycopg://me:secret@host/db")
        monkeypatch.setenv("MODELYARD_ARTIFACTS_URL", "s3://bucket/prefix")
        monkeypatch.setenv("MODELYARD_IMPORT_DIR", "/srv/models")
        found = Settings(_env_file=None)
        assert found.database == "postgresql+psycopg://me:secret@host/db"
        assert (found.artifacts, found.import_root) == ("s3://bucket/prefix", Path("/srv/models"))
        assert "secret" not in repr(found)

    def test_an_empty_variable_is_none_at_all(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MODELYARD_LEASE_SECONDS", "")
        assert Settings(_env_file=None).lease_seconds == 30

    @pytest.mark.parametrize(("name", "value"), [("LEASE_SECONDS", "0"), ("API_PORT", "70000"), ("BROKER_TIMEOUT_SECONDS", "-1")])
    def test_impossible_values(self, settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
        monkeypatch.setenv(f"MODELYARD_{name}", value)
        with pytest.raises(ValidationError, match=name.lower()):
            Settings(_env_file=None)


class TestIdentify:
    def test_ids_sort_by_time(self) -> None:
        ids = [new_id("job") for _ in range(1000)]
        assert ids == sorted(ids)
        assert len(set(ids)) == 1000

    def test_secrets_are_long_and_new(self) -> None:
        assert new_secret("my") != new_secret("my")
        assert len(new_secret("my")) >= 3 + 43  # 256 bits in base64

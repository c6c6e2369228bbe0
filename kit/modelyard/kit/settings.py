"""Every setting of the servers, typed, with its unit. Environment variables: `MODELYARD_` + the name in capitals."""

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What the servers of one platform agree on. Clients use only `MODELYARD_URL` and `MODELYARD_API_KEY`."""

    model_config = SettingsConfigDict(env_prefix="MODELYARD_", env_file=".env", extra="ignore", env_ignore_empty=True)

    data_dir: Path = Path(".modelyard")
    """Everything this machine writes: run folders, logs, locks, and by default the database and the artifacts."""
    database_url: SecretStr | None = None
    """`sqlite:///…` or `postgresql+psycopg://…`; default: a SQLite file in `data_dir`."""
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """Redis ≥ 7.2 or Valkey ≥ 8.1. `modelyard up` starts one of its own unless this is given."""
    artifacts_url: str | None = None
    """A folder, or an fsspec URL such as `s3://bucket/prefix`; default: a folder in `data_dir`."""
    import_dir: Path | None = None
    """The only folder models may be imported from by path; default: `import` in `data_dir`."""

    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8080, ge=0, le=65535)
    max_body_megabytes: int = Field(default=512, ge=1)
    """Larger request bodies are refused with 413."""
    flower_port: int = Field(default=5555, ge=0, le=65535)
    flower_user: str = "modelyard"
    flower_password: SecretStr | None = None
    """Flower does not start without one; `modelyard up` makes one."""

    lease_seconds: float = Field(default=30.0, gt=0)
    """A runner that renewed nothing for so long has lost its job. It renews four times as often."""
    stop_grace_seconds: float = Field(default=60.0, gt=0)
    """How long a recipe may take to save and leave before it is killed."""
    hang_load_seconds: float = Field(default=1800.0, gt=0)
    """A recipe that gives no sign of progress for so long while it loads counts as hung: it is ended and tried again."""
    hang_compile_seconds: float = Field(default=1800.0, gt=0)
    """The same while it compiles kernels."""
    hang_step_seconds: float = Field(default=600.0, gt=0)
    """The same between training steps, or 20 times the median time between reports if that is more."""
    hang_save_seconds: float = Field(default=1800.0, gt=0)
    """The same while it saves."""
    hang_evaluate_seconds: float = Field(default=3600.0, gt=0)
    """The same while it evaluates."""
    broker_timeout_seconds: float = Field(default=2.0, gt=0)
    """Longest wait for Redis in any one call, so that a frozen one fails fast."""
    scheduler_interval_seconds: float = Field(default=1.0, gt=0)
    """How often the scheduler looks for lost tickets, dead leases and finished pipeline parts."""
    fair_share_half_life_hours: float = Field(default=24.0, gt=0)
    """After so long, half of what a project used is forgotten when projects compete for slots."""

    reserve_after_seconds: float = Field(default=60.0, ge=0)
    """A job of several slots that fits nowhere and waited longer has slots of one worker kept free for it."""
    preempt_after_seconds: float = Field(default=30.0, ge=0)
    """A job that waited longer may take the slots of preemptible ones whose priority is at least 10 points lower."""
    gang_ready_seconds: float = Field(default=60.0, gt=0)
    """How long the workers of a job with `nodes` > 1 may take to begin their parts before all give their slots back."""
    gang_reserve_seconds: float = Field(default=60.0, ge=0)
    """A job with `nodes` > 1 that waited longer has workers kept free for it, one such job at a time."""

    keep_run_folders_days: float = Field(default=14.0, ge=0)
    """Run folders of jobs that ended longer ago are removed from the machines they ran on; `inf` keeps them for ever."""
    keep_checkpoints_days: float = Field(default=14.0, ge=0)
    """Of jobs that ended longer ago, and of those that try them again, the newest and best checkpoint stay; `inf` keeps all."""

    serve_host: str = "127.0.0.1"
    """Where model servers listen."""
    advertise_host: str = "127.0.0.1"
    """How the API reaches the model servers of this machine, and other machines the first rank of a job they share."""
    warm_parents: Literal["always", "after_use", "never"] = "after_use"
    """Whether a worker keeps torch and its family imported (some 0.6 GB), so that jobs start by a fork in milliseconds: from its
    start, from the end of the first job that needed them, or not at all. `never` also starts runners as programs."""
    log_level: str = "INFO"

    @property
    def database(self) -> str:
        """The database URL, secrets included: never log it."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir.resolve() / 'modelyard.db'}"

    @property
    def artifacts(self) -> str:
        """Where artifacts are stored."""
        return self.artifacts_url or str(self.data_dir.resolve() / "artifacts")

    @property
    def import_root(self) -> Path:
        """Folder below which models may be imported by path."""
        return (self.import_dir or self.data_dir / "import").resolve()

    def folder(self, name: str) -> Path:
        """A folder below `data_dir`, created when first asked for."""
        folder = self.data_dir.resolve() / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@lru_cache
def get_settings() -> Settings:
    """The settings of this process, read once from the environment."""
    return Settings()

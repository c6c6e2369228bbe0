"""What every recipe sees: a typed spec, inputs as local folders, and a place to write.

A recipe knows no database and no queue. It reads `run.json` in its run folder and writes `events.jsonl`,
`checkpoints/` and `outputs/` there; the runner carries these to the platform. So a recipe starts by hand too:

    python -m modelyard.workers.training.recipes.sft --spec examples/recipes/sft.yaml --run-dir /tmp/run

where the YAML holds `spec:` and `inputs:` (name -> folder).
"""

import argparse
import errno
import faulthandler
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import yaml
from pydantic import ValidationError

from modelyard.domain.specs import parse_spec
from modelyard.domain.specs.base import JobSpec
from modelyard.kit.storage import MANIFEST, build_manifest

RUN_MANIFEST = "run_manifest.json"
"""What a run ran with; beside a model it made, so that the model says so wherever it goes."""
EXIT_BAD_DATA = 65
"""EX_DATAERR of sysexits.h: the input is wrong, trying again will not help."""
EXIT_SAVED = 75
"""EX_TEMPFAIL of sysexits.h: told to stop, saved, and left."""
EXIT_NAN = 76
LOG_SECONDS = 5.0
"""Progress is logged no more often."""

ASK_SECONDS = 0.2
"""A loop asks no more often whether it should leave."""
TELL_SECONDS = 30.0
Phase = Literal["load", "compile", "step", "save", "evaluate"]

S = TypeVar("S", bound=JobSpec)
T = TypeVar("T")


class BadData(Exception):
    """The input cannot be used. Say file, line and why."""


class NotFinite(Exception):
    """The loss became NaN or infinite."""


class Stopped(Exception):
    """The runner asked the recipe to stop; everything worth keeping is saved."""


@dataclass(frozen=True)
class Input:
    """Something the job was given, as a local folder."""

    path: Path
    type: str = ""
    id: str = ""
    name: str = ""
    version: int = 0

    def digest(self) -> str | None:
        """Return the SHA-256 over the names and digests of its files, as the store has it; None for what is no artifact."""
        manifest = self.path / MANIFEST
        return json.loads(manifest.read_text(encoding="utf-8"))["sha256"] if manifest.exists() else None


class Listener(Protocol):
    """Somebody else who wants to know the metrics."""

    def hear(self, step: int, values: Mapping[str, float]) -> None:
        """Take the metrics of a step; returns at once."""

    def close(self) -> None:
        """No more will come."""


@dataclass
class Run(Generic[S]):
    """One attempt of a recipe, seen from inside. Only rank 0 writes events; other ranks' calls do nothing.

    A job over several machines has one run folder on each.
    """

    spec: S
    folder: Path
    inputs: dict[str, Input]
    resume_from: Path | None = None
    rank: int = 0
    local_rank: int = 0
    """The first of each machine does what its run folder needs once."""
    world_size: int = 1
    device: str = "cpu"
    job_id: str = ""
    """Empty where a recipe was started by hand."""
    options: dict[str, Any] = field(default_factory=dict)
    """What the runner decided and the spec does not say, e.g. the port a server listens on."""
    listener: Listener | None = None
    _logged_at: float = -LOG_SECONDS
    _events: int | None = None
    """Descriptor of `events.jsonl`, once something was said."""
    _asked_at: float = 0.0
    _told_at: float = 0.0
    _last_progress: tuple[float, str] = (0.0, "")

    def emit(self, type_: str, **data: Any) -> None:
        """Tell the platform something; what other ranks than the first say is not heard."""
        if self.rank == 0:
            self._append(type_, **data)

    def _append(self, type_: str, **data: Any) -> None:
        # A single `write` of one line, so a reader never sees half of it joined to another, and a kill loses none before it.
        line = (json.dumps({"type": type_, "at": time.time(), **data}) + "\n").encode()
        if self._events is None:  # kept open: opening costs more than all the rest
            self._events = os.open(self.folder / "events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        if os.write(self._events, line) < len(line):
            raise OSError(errno.ENOSPC, "The disk is full: an event could not be written", str(self.folder / "events.jsonl"))

    def phase(self, name: Phase) -> None:
        """Say what comes now: each phase may be silent for a different time before it counts as hung.

        Within a phase every event is a sign of life; a new attempt begins with `load`.
        """
        self.emit("phase", name=name)

    def progress(self, fraction: float, message: str = "") -> None:
        """Tell how much is done, 0 to 1. Now and then the log says so too, so that it tells a story of its own."""
        fraction = round(min(max(fraction, 0.0), 1.0), 4)
        self.emit("progress", fraction=fraction, message=message)
        self._last_progress, self._told_at = (fraction, message), time.monotonic()
        if self.rank == 0 and (time.monotonic() - self._logged_at > LOG_SECONDS or fraction == 1.0):
            self._logged_at = time.monotonic()
            print(f"{fraction:4.0%}  {message}", file=sys.stderr, flush=True)  # noqa: T201 - a recipe's log is its standard error

    def keep_telling(self, items: Iterable[T]) -> Iterator[T]:
        """Pass items on, telling the last progress again now and then: a long loop that works is not one that hangs."""
        for item in items:
            if self.is_silent():
                self.progress(*self._last_progress)
            yield item

    def is_silent(self) -> bool:
        """Whether it is time to tell the progress: who says nothing for long counts as hung, see `phase`."""
        return time.monotonic() - self._told_at > TELL_SECONDS

    def metrics(self, step: int, **values: float) -> None:
        """Record metric points of one step, e.g. `loss=2.31, learning_rate=1e-3`."""
        self.emit("metric", step=step, values=values)
        if self.listener is not None:
            self.listener.hear(step, values)

    def figures(self, **values: Any) -> None:
        """Record the headline figures of the job, those a closing table shows."""
        self.emit("figures", values=values)

    def ready(self, url: str) -> None:
        """A service answers at `url` from now on."""
        self.emit("ready", url=url)

    def input(self, name: str) -> Input:
        """Return an input the recipe cannot do without. Raises `BadData` when the job was not given it."""
        if name not in self.inputs:
            raise BadData(f"the input `{name}` is missing; name its folder under `inputs:`")
        return self.inputs[name]

    def output_folder(self, name: str) -> Path:
        """An empty folder to build the output `name` in."""
        folder = self.folder / "outputs" / name
        if self.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def output(self, name: str, type_: str, /, **metadata: Any) -> None:
        """Hand over a finished output folder: the runner stores it and records a row of `type_` when the job succeeds."""
        if self.rank == 0 and type_ == "model" and (self.folder / RUN_MANIFEST).exists():
            shutil.copy(self.folder / RUN_MANIFEST, self.folder / "outputs" / name)
        self.emit("output", name=name, output_type=type_, path=f"outputs/{name}", metadata=metadata)

    def begin_checkpoint(self, step: int) -> Path:
        """Return the folder to write a checkpoint into; the first rank of a machine empties it, and the others wait for that.

        A checkpoint becomes visible only when it is complete: temporary name, manifest, rename. On several machines each has
        a part: what its own ranks wrote.
        """
        partial = self._partial_folder(step)
        if self.local_rank == 0:
            shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, exist_ok=True)
        return partial

    def publish_checkpoint(self, step: int, began_at: float, /, **metrics: float) -> None:
        """Make a checkpoint visible whose files are all written; for the first rank of a machine. Any thread may.

        `began_at`: the moment whose state it holds, in seconds since 1970; steps after it are redone where it is resumed.
        """
        partial, final = self._partial_folder(step), self.checkpoint_folder(step)
        build_manifest(partial)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        self._append("checkpoint", at=began_at, step=step, path=f"checkpoints/{final.name}", metrics=metrics)

    def checkpoint_folder(self, step: int) -> Path:
        """Where the checkpoint of a step is, once it is whole."""
        return self.folder / "checkpoints" / f"step-{step:08d}"

    def _partial_folder(self, step: int) -> Path:
        return self.folder / "checkpoints" / f".partial-{step:08d}"

    def leave_if_asked(self) -> None:
        """Raise `Stopped` if the runner wants the recipe to leave; for work with nothing to save. Cheap enough for a loop."""
        if time.monotonic() - self._asked_at > ASK_SECONDS:
            self._asked_at = time.monotonic()
            if self.stop_requested():
                raise Stopped

    def pauses_at(self, step: int) -> bool:
        """Whether the job pauses by itself after this step: validate, save and leave. The same on every rank."""
        return bool(self.options.get("pause_at_step") == step)

    def stop_requested(self) -> str | None:
        """The runner's wish: None to go on, or why to save and leave (`cancelled`, `paused`, `drained`, …).

        Ranks may read it at different moments: decide on rank 0 and broadcast.
        """
        try:
            return (self.folder / "control").read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None


def run_recipe(main: Callable[[Run[S]], None], folder: Path | None = None) -> None:
    """Start a recipe and turn how it ends into an exit code the runner understands.

    `folder`: its run folder; else the command line says.
    """
    # A run that stands still is asked where, before it is ended: the stacks of all threads go to the log.
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)
    run = open_run(folder) if folder else _open_named_run()
    run.phase("load")
    try:
        _run_to_the_end(main, run)
    except Stopped:
        sys.exit(EXIT_SAVED)
    except BadData as error:
        _fail(run, "bad_data", str(error), EXIT_BAD_DATA)
    except NotFinite as error:
        _fail(run, "nan", str(error), EXIT_NAN)
    except Exception as error:
        traceback.print_exc()
        _fail(run, _reason_of(error), f"{type(error).__name__}: {error}", 1)


def _run_to_the_end(main: Callable[[Run[S]], None], run: Run[S]) -> None:
    try:
        main(run)
    finally:
        if run.listener is not None:
            run.listener.close()


def _fail(run: Run[Any], reason: str, message: str, exit_code: int) -> None:
    # Any rank may be the first to fail, so this goes around `emit`.
    line = json.dumps({"type": "error", "at": time.time(), "reason": reason, "message": message, "rank": run.rank}) + "\n"
    with (run.folder / "events.jsonl").open("a", encoding="utf-8") as events:
        events.write(line)
    print(f"{reason}: {message}", file=sys.stderr, flush=True)  # noqa: T201 - the log is the recipe's standard error
    sys.stdout.flush()
    # A hung collective in another thread must not keep a failed rank alive.
    os._exit(exit_code)


def _reason_of(error: Exception) -> str:
    if type(error).__name__ in {"OutOfMemoryError", "AcceleratorOutOfMemoryError"}:
        return "oom_gpu"
    if isinstance(error, MemoryError):
        return "oom_host"
    if isinstance(error, OSError) and error.errno == 28:
        return "disk_full"
    if "NCCL" in str(error):
        return "nccl"
    return "user_code"


def _open_named_run() -> Run[Any]:
    parser = argparse.ArgumentParser(description="Run one Modelyard recipe.")
    parser.add_argument("--run-dir", type=Path, required=True, help="folder for events, checkpoints and outputs")
    parser.add_argument("--spec", type=Path, help="YAML with `spec:` and `inputs:` (name -> folder), to start by hand")
    arguments = parser.parse_args()
    folder: Path = arguments.run_dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return open_run(folder, arguments.spec)


def open_run(folder: Path, spec_file: Path | None = None) -> Run[Any]:
    """Read what the runner wants done, or a YAML file where a recipe is started by hand. Leaves if that is invalid."""
    document = _document_from_yaml(spec_file) if spec_file else json.loads((folder / "run.json").read_text(encoding="utf-8"))
    try:
        spec = parse_spec(document["spec"])
    except ValidationError as error:
        sys.exit(f"{spec_file or folder / 'run.json'}: {error}")
    inputs = {name: Input(**{**value, "path": Path(value["path"])}) for name, value in document.get("inputs", {}).items()}
    resume = document.get("resume_from")
    return Run(
        spec=spec,
        folder=folder,
        inputs=inputs,
        resume_from=Path(resume) if resume else None,
        rank=int(os.environ.get("RANK", "0")),
        local_rank=int(os.environ.get("LOCAL_RANK", os.environ.get("RANK", "0"))),
        world_size=int(os.environ.get("WORLD_SIZE", "1")),
        device=os.environ.get("MODELYARD_DEVICE", "cpu"),
        job_id=document.get("job_id", ""),
        options=document.get("options", {}),
    )


def _document_from_yaml(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    inputs = {name: {"path": str(folder)} for name, folder in document.get("inputs", {}).items()}
    return {**document, "inputs": inputs}

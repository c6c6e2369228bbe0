"""The kill loop: a cluster at work while things go wrong at random by a seed; then the verdict."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import select

from modelyard.domain.jobs.lifecycle import FINISHED, JobState
from modelyard.domain.jobs.tables import Job
from modelyard.domain.workers.repository import list_online
from modelyard.kit.database import Database
from tests.chaos.cluster import PROGRAMS, WORKERS, Cluster
from tests.chaos.injections import AT_RANDOM, Injector
from tests.chaos.verdict import Verdict, judge
from tests.chaos.watch import Watch
from tests.chaos.work import Load, Submitter
from tests.servers import run_postgres

START_SECONDS = 180.0
SETTLE_SECONDS = 180.0
"""How long the jobs still open may take when nothing goes wrong any more."""
PATIENCE = 2.5
"""How many times as long things go wrong at most."""
ORPHAN_SECONDS = 15.0
"""How long a runner may take to leave after its report."""


@dataclass(frozen=True)
class Plan:
    """One run of the loop."""

    seconds: float = 150.0
    """How long things go wrong; longer on a machine so slow that not everything could go wrong by then."""
    seed: int = 7
    database: str = "sqlite"
    rooms: Sequence[Path] = ()
    settle_seconds: float = SETTLE_SECONDS
    pause_seconds: tuple[float, float] = (1.0, 4.0)
    """Between two injections."""
    injections: Mapping[str, int] = field(default_factory=lambda: AT_RANDOM)
    """What goes wrong, and how often in a round."""
    programs: Sequence[str] = tuple(PROGRAMS)
    load: Load = field(default_factory=Load)
    calls_off: bool = False
    """Whether trainings are cancelled in the end; else all must succeed."""
    symptoms: Sequence[str] = ()
    """Parts of problems to watch for: the run is over as soon as one is seen."""


def run_loop(plan: Plan, folder: Path, say: Callable[[str], None] = lambda text: None) -> Verdict:
    """Run the loop and judge. Everything it started is gone when it returns."""
    with ExitStack() as stack:
        postgres = stack.enter_context(run_postgres()) if plan.database == "postgresql" else None
        cluster = Cluster(folder, postgres, plan.rooms, programs=plan.programs)
        stack.callback(cluster.stop)
        cluster.start()
        return _run(plan, cluster, say)


def _run(plan: Plan, cluster: Cluster, say: Callable[[str], None]) -> Verdict:
    _wait(lambda: _answers(cluster.url), START_SECONDS, "the API did not answer")
    database = Database(cluster.database_url)
    chance = random.Random(plan.seed)  # noqa: S311 - repeatable on purpose
    submitter = Submitter(cluster, random.Random(chance.random()), plan.load)  # noqa: S311
    submitter.prepare_corpus()
    _wait(lambda: _count_open(database) == 0, START_SECONDS, "the first job did not end")
    wanted = sum(name in WORKERS for name in plan.programs)
    _wait(lambda: _count_workers(database) == wanted, START_SECONDS, "not every worker reported")
    submitter.start()
    injector = Injector(cluster, database, chance, plan.injections)
    started = time.monotonic()
    seen = _inject(plan, injector, Watch(database, cluster.settings, plan.symptoms), started, say)
    if seen:
        return _break_off(
            Verdict(plan.seed, plan.database, _since(started), dict(injector.done), problems=seen), cluster, submitter
        )
    say("nothing goes wrong any more; waiting for the open jobs")
    submitter.stopped.set()
    while not injector.has_all_put_right:  # whoever is frozen stays so for its full time: waking up late is the point
        injector.put_right()
        time.sleep(0.1)
    submitter.join(timeout=60)
    if plan.calls_off:
        submitter.call_off()
    verdict = Verdict(plan.seed, plan.database, _since(started), dict(injector.done))
    verdict.doubled_answers, verdict.problems = submitter.doubled, [*submitter.contradictions, *injector.problems]
    settled = _try(lambda: _is_settled(database, submitter), plan.settle_seconds)
    if not settled:
        verdict.problems.append(f"jobs were still open {plan.settle_seconds:g} s after the last injection")
    if settled and not _try(lambda: not cluster.attempts(), ORPHAN_SECONDS):
        verdict.problems += [f"processes of attempt {tag} were left over" for tag in cluster.attempts()]
    judge(verdict, database, cluster.settings, submitter.accepted, submitter.called_off)
    database.dispose()
    return verdict


def _break_off(verdict: Verdict, cluster: Cluster, submitter: Submitter) -> Verdict:
    """Enough was seen: nobody needs to come to an end."""
    submitter.stopped.set()
    submitter.join(timeout=60)
    cluster.kill_all()
    return verdict


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)


def _inject(plan: Plan, injector: Injector, watch: Watch, started: float, say: Callable[[str], None]) -> list[str]:
    """Do one thing after another until the time is over, or one of the symptoms is seen, which is returned."""
    next_at = started + plan.pause_seconds[1]
    while (now := time.monotonic()) - started < plan.seconds * (1.0 if injector.has_done_all else PATIENCE):
        with suppress(SQLAlchemyError):  # the database is away: our doing
            injector.put_right()
            if seen := watch.look():
                return seen
            if now >= next_at:
                next_at = now + plan.pause_seconds[1]
                name = injector.inject()
                say(f"{now - started:6.1f} s  {name or 'nobody to do anything to'}")
                next_at = time.monotonic() + injector.random.uniform(*plan.pause_seconds)
        time.sleep(0.1)
    return []


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/healthz", timeout=2).status_code == 200
    except httpx2.HTTPError:
        return False


def _count_open(database: Database) -> int:
    with database.read() as session:
        return len(session.exec(select(Job.id).where(Job.state.not_in(FINISHED))).all())  # type: ignore[attr-defined]


def _count_workers(database: Database) -> int:
    with database.read() as session:
        return len(list_online(session))


def _is_settled(database: Database, submitter: Submitter) -> bool:
    with database.read() as session:
        quarantined = set(session.exec(select(Job.id).where(Job.state == JobState.QUARANTINED)).all())
    for key in [key for key, id_ in submitter.accepted.items() if id_ in quarantined]:
        submitter.try_again(key)
    return _count_open(database) == 0


def _try(is_so: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.3)
    return is_so()


def _wait(is_so: Callable[[], bool], seconds: float, why: str) -> None:
    if not _try(is_so, seconds):
        raise TimeoutError(f"{why} within {seconds:g} s")

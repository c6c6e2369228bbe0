"""Each invariant sees what breaks it, and nothing else; what only looked wrong for a moment is not reported."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from factories import Factory, write
from sqlmodel import select

from modelyard.domain.invariants.checks import CHECKS, check_job
from modelyard.domain.invariants.examination import Examiner
from modelyard.domain.invariants.facts import AttemptFacts, JobFacts, SeatFacts
from modelyard.domain.invariants.repository import PAGE_JOBS
from modelyard.domain.jobs.lifecycle import JobState, Outcome
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.tables import Attempt, Job, JobTally
from modelyard.domain.registry.repository import Made, register
from modelyard.kit.storage import MANIFEST, ArtifactStore

NOW = 1000.0
FIRST = AttemptFacts(1, 100.0, 200.0, "node_lost")
OPEN = AttemptFacts(2, 250.0)
WON = AttemptFacts(2, 250.0, 300.0, "succeeded")
RUNNING = JobFacts("job_1", "prepare", JobState.RUNNING, 2, lease_expires_at=NOW + 20, attempts=(FIRST, OPEN))
DONE = JobFacts("job_1", "prepare", JobState.SUCCEEDED, 2, finished_at=300.0, attempts=(FIRST, WON))
WAITING = JobFacts("job_1", "prepare", JobState.QUEUED, 1, reason="node_lost", attempts=(FIRST,))
HELD = JobFacts("job_1", "prepare", JobState.HELD, reason="dependency")
FINE = {"running": RUNNING, "done": DONE, "waiting": WAITING, "held": HELD, "new": JobFacts("job_1", "prepare", JobState.QUEUED)}
BROKEN: dict[str, tuple[JobFacts, str]] = {
    "two open attempts": (replace(RUNNING, attempts=(replace(OPEN, seq=1, started_at=1), OPEN)), "one_open_attempt"),
    "running without an attempt": (replace(RUNNING, attempts=(FIRST, replace(WON, outcome="node_lost"))), "one_open_attempt"),
    "waiting with an open attempt": (replace(WAITING, attempts=(replace(OPEN, seq=1),)), "one_open_attempt"),
    "overlap": (replace(RUNNING, attempts=(FIRST, replace(OPEN, started_at=199.9))), "no_overlap"),
    "gap": (replace(RUNNING, attempts=(OPEN,)), "numbered_without_gaps"),
    "number ahead of the attempts": (replace(WAITING, attempt=2), "numbered_without_gaps"),
    "finished without a time": (replace(DONE, finished_at=None), "terminal_is_closed"),
    "finished with a lease": (replace(DONE, lease_expires_at=NOW), "terminal_is_closed"),
    "a time without an end": (replace(WAITING, finished_at=1.0), "terminal_is_closed"),
    "end without outcome": (replace(WAITING, attempts=(replace(FIRST, outcome=None),)), "ended_attempts_say_how"),
    "succeeded twice": (replace(DONE, attempts=(replace(FIRST, outcome="succeeded"), WON)), "succeeded_once"),
    "succeeded never": (replace(DONE, attempts=(FIRST, replace(WON, outcome="hang"))), "succeeded_once"),
    "succeeded and tried again": (replace(WAITING, attempts=(replace(FIRST, outcome="succeeded"),)), "succeeded_once"),
    "running without a lease": (replace(RUNNING, lease_expires_at=None), "open_job_has_a_reason"),
    "a lease nobody ends": (replace(RUNNING, lease_expires_at=NOW - 61), "open_job_has_a_reason"),
    "waiting with a lease": (replace(WAITING, lease_expires_at=NOW), "open_job_has_a_reason"),
    "held for no reason": (replace(HELD, reason=None), "open_job_has_a_reason"),
    "a seat of an ended attempt": (replace(WAITING, seats=(SeatFacts(1, 0, NOW + 5),)), "seats_are_left"),
}


class TestChecks:
    @pytest.mark.parametrize("name", FINE)
    def test_nothing_is_wrong(self, name: str) -> None:
        assert check_job(FINE[name], NOW) == []

    @pytest.mark.parametrize("name", BROKEN)
    def test_each_sees_what_breaks_it_alone(self, name: str) -> None:
        job, invariant = BROKEN[name]
        assert [each.invariant for each in check_job(job, NOW)] == [invariant]

    def test_every_check_has_something_that_breaks_it(self) -> None:
        assert {invariant for _, invariant in BROKEN.values()} == {check.__name__ for check in CHECKS}

    @pytest.mark.parametrize("lease", [NOW - 1, NOW + 20])
    def test_a_seat_may_be_held_while_its_attempt_runs_or_until_it_expires(self, lease: float) -> None:
        assert check_job(replace(RUNNING, seats=(SeatFacts(2, 0, lease), SeatFacts(1, 0, NOW - 1))), NOW) == []


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"), tmp_path / "cache")


Examine = Callable[..., Any]


@pytest.fixture
def examine(factory: Factory, store: ArtifactStore) -> Examine:
    """Examine the fresh database; every waiting job has its ticket unless told otherwise."""

    def run(tickets: Any = dict, wait: Callable[[], None] = lambda: None, is_deep: bool = False) -> Any:
        return Examiner(factory.database, store, tickets, (OSError,), wait, is_deep).examine()

    return run


def make_output(factory: Factory, store: ArtifactStore, tmp_path: Path) -> Job:
    """A job that succeeded, with a dataset in the store."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "rows.txt").write_text("to be or not to be")
    job = factory.running()
    manifest = store.put(folder, "model/made")
    made = Made("model", "made", "model/made", manifest["sha256"], manifest["bytes"])
    with factory.database.write() as session:
        row = register(session, factory.project_id, made, job.id, 1)
        outputs = {"model": {"type": "model", "id": row.id}}
        return finish(session, job.id, 1, Outcome.SUCCEEDED, outputs=outputs)


class TestExamine:
    def test_a_healthy_platform(self, factory: Factory, store: ArtifactStore, examine: Examine, tmp_path: Path) -> None:
        make_output(factory, store, tmp_path)
        factory.running()
        factory.job()
        report = examine()
        assert report.is_ok, report.violations
        assert report.checked == {"jobs": 3, "attempts": 2, "artifacts": 1, "queues": 1}
        assert report.skipped == ()

    def test_all_pages(self, factory: Factory, examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("modelyard.domain.invariants.repository.PAGE_JOBS", 2)
        assert PAGE_JOBS >= 100
        jobs = [factory.job() for _ in range(5)]
        factory.update(jobs[4], attempt=2)
        report = examine()
        assert report.checked["jobs"] == 5
        assert {each.job_id for each in report.violations} == {jobs[4].id}

    def test_a_row_that_is_wrong_stays_wrong(self, factory: Factory, examine: Examine) -> None:
        job = factory.running()
        factory.update(job, lease_expires_at=None)
        assert [(each.invariant, each.job_id) for each in examine().violations] == [("open_job_has_a_reason", job.id)]

    def test_a_row_that_was_wrong_for_a_moment_is_not_reported(self, factory: Factory, examine: Examine) -> None:
        job = factory.running()
        factory.update(job, lease_expires_at=None)
        looks: list[str] = []

        def mend() -> None:
            looks.append("waited")
            factory.update(job, lease_expires_at=factory.database.now() + 30)

        assert examine(wait=mend).is_ok
        assert looks == ["waited"]

    @pytest.mark.parametrize(
        ("damage", "says"),
        [
            ({"state": "dancing"}, "has the unknown state 'dancing'"),
            ({"outputs": {"model": {"id": "model_1"}}}, "has outputs without type and id"),
            ({"outputs": {"model": None}}, "has outputs without type and id"),
            ({"outputs": ["model_1"]}, "has outputs without type and id"),
        ],
    )
    def test_a_row_nobody_can_read_hides_no_other(
        self, factory: Factory, examine: Examine, damage: dict[str, object], says: str
    ) -> None:
        wrong, other = factory.running(), factory.running()
        factory.update(wrong, **damage)
        factory.update(other, lease_expires_at=None)
        report = examine()
        found = {(each.invariant, each.job_id): each.message for each in report.violations if each.job_id}
        assert set(found) == {("rows_can_be_read", wrong.id), ("open_job_has_a_reason", other.id)}
        assert says in found["rows_can_be_read", wrong.id]
        assert report.checked["jobs"] == 2

    def test_a_second_open_attempt(self, factory: Factory, examine: Examine) -> None:
        job = factory.running()
        write(factory.database, finish, job.id, 1, Outcome.NODE_LOST)
        factory.claimed(job)
        with factory.database.write() as session:
            first = session.exec(select(Attempt).where(Attempt.seq == 1)).one()
            first.finished_at = first.outcome = None
        assert [each.invariant for each in examine().violations] == ["one_open_attempt"]


class TestTickets:
    def test_a_waiting_job_without_a_ticket(self, factory: Factory, examine: Examine) -> None:
        job = factory.job()
        report = examine(tickets=lambda waiting: {})
        assert [(each.invariant, each.job_id) for each in report.violations] == [("waiting_jobs_have_tickets", job.id)]

    def test_one_that_is_rung_for_in_time(self, factory: Factory, examine: Examine) -> None:
        factory.job()
        tickets: dict[str, int] = {}
        assert examine(tickets=lambda waiting: tickets, wait=lambda: tickets.update(prepare=1)).is_ok

    def test_a_broker_that_does_not_answer_is_said(self, factory: Factory, examine: Examine) -> None:
        def away(waiting: Any) -> Any:
            raise ConnectionError("refused")

        factory.job()
        report = examine(tickets=away)
        assert report.is_ok
        assert report.skipped == ("tickets: the broker does not answer (ConnectionError)",)


class TestTallies:
    def test_a_number_that_is_not_the_number_of_jobs(self, factory: Factory, examine: Examine) -> None:
        job = factory.job()
        with factory.database.write() as session:
            session.add(JobTally(project_id=job.project_id, queue=job.queue, state="paused", jobs=1, slots=1))
        messages = [each.message for each in examine().violations if each.invariant == "tallies_are_right"]
        assert messages == ["1 jobs are noted as paused in prepare, and there are 0"]


class TestArtifacts:
    def test_a_file_cut_short_is_seen_at_once(
        self, factory: Factory, store: ArtifactStore, examine: Examine, tmp_path: Path
    ) -> None:
        job = make_output(factory, store, tmp_path)
        self.change(store, "to be or")
        assert [(each.invariant, each.job_id) for each in examine().violations] == [("artifacts_are_whole", job.id)]

    def test_another_content_of_the_same_size_takes_a_deep_look(
        self, factory: Factory, store: ArtifactStore, examine: Examine, tmp_path: Path
    ) -> None:
        make_output(factory, store, tmp_path)
        assert examine(is_deep=True).is_ok
        self.change(store, "to be or not to me")
        assert examine().is_ok
        assert [each.invariant for each in examine(is_deep=True).violations] == ["artifacts_are_whole"]

    def test_no_manifest(self, factory: Factory, store: ArtifactStore, examine: Examine, tmp_path: Path) -> None:
        make_output(factory, store, tmp_path)
        (Path(store.url) / "model/made" / MANIFEST).unlink()
        assert "no readable manifest" in examine().violations[0].message

    def test_a_success_that_made_nothing(self, factory: Factory, examine: Examine) -> None:
        job = factory.running()
        write(factory.database, finish, job.id, 1, Outcome.SUCCEEDED)
        assert [each.invariant for each in examine().violations] == ["outputs_are_registered"]

    def test_an_output_nobody_registered(self, factory: Factory, examine: Examine) -> None:
        job = factory.running()
        outputs = {"model": {"type": "model", "id": "mdl_none"}}
        write(factory.database, finish, job.id, 1, Outcome.SUCCEEDED, outputs=outputs)
        assert [each.invariant for each in examine().violations] == ["outputs_are_registered"]

    @staticmethod
    def change(store: ArtifactStore, text: str) -> None:
        path = Path(store.url) / "model/made" / "rows.txt"
        path.unlink()  # the store may hold a hard link
        path.write_text(text)

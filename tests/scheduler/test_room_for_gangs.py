"""Gangs beside other jobs, in the database: fair share, quotas, and victims asked on several machines, all or none."""

from typing import Any

import pytest
from factories import LEASE_SECONDS, Factory, write
from sqlmodel import select

from modelyard.domain.jobs.gangs import claim_gang, list_waiting_gangs, view_workers
from modelyard.domain.jobs.lifecycle import Outcome
from modelyard.domain.jobs.ownership import claim, finish
from modelyard.domain.jobs.queues import Shape
from modelyard.domain.jobs.seats import list_seats, take
from modelyard.domain.jobs.submission import JobRequest, submit
from modelyard.domain.jobs.tables import Attempt, Job, JobEvent, Seat
from modelyard.domain.projects.tables import Project
from modelyard.domain.scheduling.gang_preemption import choose_gang_victims
from modelyard.domain.scheduling.gangs import Placement
from modelyard.domain.specs import parse_spec
from modelyard.domain.workers.survey import survey
from modelyard.domain.workers.tables import Reservation, Worker
from modelyard.kit.settings import Settings
from modelyard.scheduler.gangs import place_gangs
from modelyard.scheduler.placement import place
from modelyard.scheduler.room import displace, make_room_for_gangs

LONG_AGO = 1000.0
HOSTS = ("a@one", "b@two", "c@three")


@pytest.fixture
def eager(settings: Settings) -> Settings:
    """Waits as users are told, and victims may take a minute."""
    return settings.model_copy(update={"preempt_after_seconds": 30.0, "gang_reserve_seconds": 60.0, "stop_grace_seconds": 60.0})


@pytest.fixture
def busy(factory: Factory) -> list[Job]:
    """Three workers of one slot, each with a preemptible job."""
    factory.registered()
    return [start(factory, name, preemptible=True) for name in HOSTS]


def start(factory: Factory, name: str, **request: Any) -> Job:
    """A new worker that has nothing free, for it runs a job."""
    factory.worker(name, cpu=1)
    factory.job("pretrain", **request)
    claimed: Job | None = write(factory.database, claim, "pretrain", name, ["cpu-0"], LEASE_SECONDS)
    assert claimed is not None
    set_free(factory, name, 0)
    return claimed


def set_free(factory: Factory, name: str, free: int) -> None:
    """As the worker's next heartbeat will say."""
    with factory.database.write() as session:
        row = session.get_one(Worker, name)
        row.slots = {**row.slots, "cpu": {**row.slots["cpu"], "free": free}}


def submit_gang(factory: Factory, nodes: int = 2, waited: float = LONG_AGO, project: str = "default", **request: Any) -> Job:
    spec = parse_spec({"kind": "pretrain", "name": "bard", "dataset": "corpus"})
    factory.registered(project=project)
    wanted = JobRequest(spec, shape=Shape(1, nodes=nodes), **request)
    job: Job = write(factory.database, submit, factory.project(project), wanted)
    factory.update(job, queued_at=factory.database.now() - waited)
    return job


def asked(factory: Factory) -> set[str]:
    return {event.job_id for event in factory.find(select(JobEvent).where(JobEvent.type == "asked_to_leave"))}


def reserved(factory: Factory) -> set[tuple[str, str]]:
    return {(row.job_id, row.worker_id) for row in factory.find(select(Reservation))}


class TestMakeRoom:
    def test_victims_on_two_machines_leave_and_the_gang_starts_there(
        self, factory: Factory, eager: Settings, busy: list[Job]
    ) -> None:
        urgent = submit_gang(factory, priority=90, waited=10.0)
        make_room_for_gangs(factory.database, eager)
        assert asked(factory) == set(), "it has not waited long"
        factory.update(urgent, queued_at=factory.database.now() - 31.0)
        make_room_for_gangs(factory.database, eager)
        victims = asked(factory)
        assert len(victims) == 2, "as many as it takes"
        where = {job.worker_id for job in busy if job.id in victims}
        assert reserved(factory) == {(urgent.id, name) for name in where}
        for _ in range(2):
            place_gangs(factory.database, eager)
            make_room_for_gangs(factory.database, eager)
            place(factory.database, eager)
        assert (asked(factory), reserved(factory)) == (victims, {(urgent.id, name) for name in where}), "kept while they save"

        for job in busy:
            if job.id in victims:
                write(factory.database, finish, job.id, 1, Outcome.PREEMPTED)
                set_free(factory, job.worker_id or "", 1)
        place_gangs(factory.database, eager)
        assert factory.get(Job, urgent.id).state == "running"
        assert {seat.worker_id for seat in factory.find(select(Seat))} == where
        assert {factory.get(Job, id_).state for id_ in victims} == {"queued"}, "they go on later"

    def test_nobody_is_stopped_where_the_gang_would_not_fit_even_so(
        self, factory: Factory, eager: Settings, busy: list[Job]
    ) -> None:
        factory.update(busy[0], preemptible=False)
        factory.update(busy[1], priority=85)
        submit_gang(factory, priority=90)
        make_room_for_gangs(factory.database, eager)
        assert (asked(factory), reserved(factory)) == (set(), set())

    def test_none_at_all_if_one_of_them_moved_meanwhile(self, factory: Factory, eager: Settings, busy: list[Job]) -> None:
        urgent = submit_gang(factory, nodes=3, priority=90)
        with factory.database.read() as session:
            (gang,) = list_waiting_gangs(session, 0.0)
            victims = choose_gang_victims(gang, view_workers(session), survey(session), eager.stop_grace_seconds)
        assert victims is not None
        last = max(busy, key=lambda job: job.id)  # asked last: by then the others were asked already
        write(factory.database, finish, last.id, 1, Outcome.SUCCEEDED)
        assert not displace(factory.database, gang, victims)
        assert (asked(factory), reserved(factory)) == (set(), set())
        assert {factory.get(Job, job.id).stop_requested for job in busy} == {None}
        assert factory.get(Job, urgent.id).state == "queued"

    def test_a_preemptible_gang_leaves_as_one_job(self, factory: Factory, eager: Settings) -> None:
        factory.registered()
        for name in HOSTS[:2]:
            factory.worker(name, cpu=1)
        patient = submit_gang(factory, preemptible=True)
        write(factory.database, claim_gang, Placement(patient.id, "cpu", HOSTS[:2]), 60.0, LEASE_SECONDS, 0.0)
        with factory.database.read() as session:
            seats = list_seats(session, patient.id, 1)
        for seat in seats:
            write(factory.database, take, seat, ["cpu-0"], LEASE_SECONDS)
        for name in HOSTS[:2]:
            set_free(factory, name, 0)
        with factory.database.write() as session:
            session.exec(select(Attempt).where(Attempt.job_id == patient.id)).one().started_at -= LONG_AGO
        with factory.database.read() as session:
            assert all(seat.lost >= 2 * LONG_AGO for seat in survey(session).running), "what all its nodes lose"
        submit_gang(factory, priority=90)
        make_room_for_gangs(factory.database, eager)
        assert asked(factory) == {patient.id}
        assert factory.get(Job, patient.id).stop_requested == "preempted"

    def test_one_gang_at_a_time_and_the_next_leaves_its_victims_alone(
        self, factory: Factory, eager: Settings, busy: list[Job]
    ) -> None:
        first, second = submit_gang(factory, priority=90), submit_gang(factory, priority=90)
        for _ in range(3):
            place_gangs(factory.database, eager)
            make_room_for_gangs(factory.database, eager)
        assert len(asked(factory)) == 2
        assert {job_id for job_id, _ in reserved(factory)} == {first.id}
        assert factory.get(Job, second.id).state == "queued"

    def test_who_made_room_keeps_it_however_many_better_ones_come(
        self, factory: Factory, eager: Settings, busy: list[Job]
    ) -> None:
        urgent = submit_gang(factory, priority=80)
        make_room_for_gangs(factory.database, eager)
        before = reserved(factory)
        assert {job_id for job_id, _ in before} == {urgent.id}
        for _ in range(9):
            submit_gang(factory, priority=100)
        place_gangs(factory.database, eager)
        assert reserved(factory) == before


class TestQuota:
    def test_nothing_is_kept_and_nobody_leaves_for_one_its_quota_holds_back(
        self, factory: Factory, eager: Settings, busy: list[Job]
    ) -> None:
        submit_gang(factory, nodes=3, priority=90)
        with factory.database.write() as session:
            session.get_one(Project, factory.project_id).max_gpus = 5
        place_gangs(factory.database, eager)
        make_room_for_gangs(factory.database, eager)
        assert (asked(factory), reserved(factory)) == (set(), set()), "3 run and 3 more would be 6"
        with factory.database.write() as session:
            session.get_one(Project, factory.project_id).max_gpus = 6
        make_room_for_gangs(factory.database, eager)
        assert len(asked(factory)) == 3


class TestFairShare:
    def test_the_project_that_used_less_goes_first(self, factory: Factory, settings: Settings) -> None:
        greedy, modest = submit_gang(factory, project="greedy"), submit_gang(factory, project="modest")
        assert self.order(factory) == [greedy.id, modest.id], "neither used anything: who came first"
        with factory.database.write() as session:
            row = session.get_one(Project, factory.project("greedy"))
            row.recent_gpu_seconds, row.recent_at = 1e6, factory.database.now()
        assert self.order(factory) == [modest.id, greedy.id]
        for name in HOSTS[:2]:
            factory.worker(name, cpu=1)
        place_gangs(factory.database, settings)
        assert factory.get(Job, modest.id).state == "running"
        assert factory.get(Job, greedy.id).state == "queued"

    def test_a_long_line_of_one_project_hides_nobody_else(self, factory: Factory) -> None:
        for _ in range(12):
            submit_gang(factory, project="greedy")
        late = submit_gang(factory, project="modest")
        assert late.id in self.order(factory)

    def order(self, factory: Factory) -> list[str]:
        gangs = write(factory.database, list_waiting_gangs, 0.0)
        return [gang.job_id for gang in sorted(gangs, key=lambda each: each.order_key + each.set_back_seconds)]

"""Seats of a gang: claimed together, taken before the attempt ends or not at all, and none lingering when the next begins."""

import pytest
from factories import LEASE_SECONDS, Factory, write
from sqlmodel import select

from modelyard.domain.jobs.gangs import claim_gang, end_unready, list_unready, list_waiting_gangs, view_workers
from modelyard.domain.jobs.lifecycle import Outcome, StaleAttempt
from modelyard.domain.jobs.ownership import finish
from modelyard.domain.jobs.queues import Shape
from modelyard.domain.jobs.seats import ask_to_stop, give_back, leave, list_reserved, renew_seat, say_places, say_stalled, take
from modelyard.domain.jobs.submission import JobRequest, submit
from modelyard.domain.jobs.tables import Attempt, Job, Seat
from modelyard.domain.scheduling.gangs import Placement, WorkerView, place
from modelyard.domain.specs import parse_spec
from modelyard.domain.workers.outlook import read_outlook
from modelyard.domain.workers.repository import report_worker
from modelyard.domain.workers.tables import Reservation, Worker
from modelyard.kit.database import Database

GRACE = 7.5
WORKERS = ("w1@x", "w2@y")


def submit_gang(factory: Factory, nodes: int = 2, slots: int = 1) -> Job:
    factory.registered("dataset", "corpus")
    request = JobRequest(parse_spec({"kind": "pretrain", "name": "bard", "dataset": "corpus"}), shape=Shape(slots, nodes=nodes))
    job: Job = write(factory.database, submit, factory.project_id, request)
    return job


def claim(factory: Factory, job: Job) -> Job | None:
    placement = Placement(job.id, "cpu", WORKERS)
    claimed: Job | None = write(factory.database, claim_gang, placement, 60.0, LEASE_SECONDS, GRACE)
    return claimed


def seats_of(factory: Factory, job: Job) -> list[Seat]:
    return factory.find(select(Seat).where(Seat.job_id == job.id).order_by(Seat.attempt, Seat.node_rank))


def take_all(factory: Factory, job: Job) -> list[Seat]:
    for seat in seats_of(factory, job):
        if seat.state == "reserved":
            write(factory.database, take, seat, ["cpu-0"], LEASE_SECONDS)
    return seats_of(factory, job)


def online(database: Database, name: str, total: int = 1, free: int = 1) -> None:
    now = database.now()
    slots = {"cpu": {"total": total, "free": free}, "gpu": {"total": 0, "free": 0}}
    row = Worker(id=name, host=name.split("@")[1], pid=1, state="online", started_at=now, heartbeat_at=now, stages=["pretrain"])
    row.slots = slots
    write(database, report_worker, row)


class TestClaimGang:
    def test_one_attempt_and_all_seats_at_once(self, factory: Factory) -> None:
        job = submit_gang(factory)
        assert job.queue == "pretrain.2x1slot"
        claimed = claim(factory, job)
        assert claimed is not None
        assert (claimed.state, claimed.attempt, claimed.worker_id) == ("running", 1, "w1@x")
        (attempt,) = factory.find(select(Attempt).where(Attempt.job_id == job.id))
        assert (attempt.seq, attempt.worker_id, attempt.host, attempt.accelerator) == (1, "w1@x", "x", "cpu")
        assert [(seat.node_rank, seat.worker_id, seat.state) for seat in seats_of(factory, job)] == [
            (0, "w1@x", "reserved"),
            (1, "w2@y", "reserved"),
        ]
        assert {row.worker_id for row in factory.find(select(Reservation))} == set(WORKERS), "its slots are kept until taken"

    def test_not_twice(self, factory: Factory) -> None:
        job = submit_gang(factory)
        assert claim(factory, job) is not None
        assert claim(factory, job) is None

    def test_not_while_an_old_seat_may_have_processes(self, factory: Factory) -> None:
        job = submit_gang(factory)
        claim(factory, job)
        seats = take_all(factory, job)
        write(factory.database, finish, job.id, 1, Outcome.DRAINED)
        assert write(factory.database, list_waiting_gangs, GRACE) == []
        assert claim(factory, job) is None
        write(factory.database, leave, seats[1])
        assert [gang.job_id for gang in write(factory.database, list_waiting_gangs, GRACE)] == [job.id]
        claimed = claim(factory, job)
        assert claimed is not None
        assert claimed.attempt == 2

    @pytest.mark.parametrize(("ended_ago", "lingers"), [(GRACE - 2, True), (GRACE + 2, False)])
    def test_a_lease_long_over_is_as_good_as_left(self, factory: Factory, ended_ago: float, lingers: bool) -> None:
        job = submit_gang(factory)
        claim(factory, job)
        seats = take_all(factory, job)
        write(factory.database, finish, job.id, 1, Outcome.NODE_LOST)
        with factory.database.write() as session:
            row = session.get(Seat, (job.id, 1, seats[1].node_rank))
            assert row is not None
            row.lease_expires_at = factory.database.now() - ended_ago
        factory.update(job, not_before=0.0)
        assert (claim(factory, job) is None) is lingers


class TestReadOutlook:
    def test_its_slots_are_kept_until_it_takes_its_seat_or_the_gang_is_over(self, factory: Factory) -> None:
        job = submit_gang(factory)
        for name in WORKERS:
            online(factory.database, name)
        claim(factory, job)

        def kept(worker: str) -> int:
            outlook = write(factory.database, read_outlook, worker, worker.split("@")[1])
            return int(outlook.count_kept("cpu", "pretrain"))

        assert [kept(name) for name in WORKERS] == [1, 1]
        write(factory.database, take, seats_of(factory, job)[0], ["cpu-0"], LEASE_SECONDS)
        assert [kept(name) for name in WORKERS] == [0, 1]
        factory.update(job, state="cancelled")
        assert [kept(name) for name in WORKERS] == [0, 0]


class TestTake:
    def test_a_seat_of_an_ended_attempt_cannot_be_taken(self, factory: Factory) -> None:
        job = submit_gang(factory)
        claim(factory, job)
        seat = seats_of(factory, job)[1]
        write(factory.database, finish, job.id, 1, Outcome.PREEMPTED)
        with pytest.raises(StaleAttempt):
            write(factory.database, take, seat, ["cpu-0"], LEASE_SECONDS)
        assert seats_of(factory, job)[1].state == "reserved"

    def test_taken_once_with_its_lease_and_no_reservation_left(self, factory: Factory) -> None:
        job = submit_gang(factory)
        claim(factory, job)
        seats = take_all(factory, job)
        assert [seat.state for seat in seats] == ["running", "running"]
        assert seats[0].lease_expires_at is None, "node 0 lives by the job's lease"
        assert seats[1].lease_expires_at is not None
        assert factory.find(select(Reservation)) == []
        with pytest.raises(StaleAttempt):
            write(factory.database, take, seats[1], ["cpu-0"], LEASE_SECONDS)

    def test_only_its_own_worker_sees_it(self, factory: Factory) -> None:
        job = submit_gang(factory)
        claim(factory, job)
        with factory.database.read() as session:
            found = list_reserved(session, "w2@y")
            assert [(seat.node_rank, each.id) for seat, each, _ in found] == [(1, job.id)]
            assert list_reserved(session, "w3@z") == []


class TestRenewSeat:
    def test_until_the_attempt_is_over_and_with_the_wish_to_stop(self, factory: Factory) -> None:
        job = submit_gang(factory)
        claim(factory, job)
        take_all(factory, job)
        write(factory.database, ask_to_stop, job.id, 1, "drained")
        write(factory.database, ask_to_stop, job.id, 1, "preempted")
        assert write(factory.database, renew_seat, job.id, 1, 1, LEASE_SECONDS).stop_requested == "drained"
        write(factory.database, finish, job.id, 1, Outcome.DRAINED)
        with pytest.raises(StaleAttempt):
            write(factory.database, renew_seat, job.id, 1, 1, LEASE_SECONDS)

    def test_not_a_seat_that_was_left(self, factory: Factory) -> None:
        job = submit_gang(factory)
        claim(factory, job)
        seats = take_all(factory, job)
        write(factory.database, leave, seats[1], Outcome.USER_CODE, "broke", 1, 1)
        with pytest.raises(StaleAttempt):
            write(factory.database, renew_seat, job.id, 1, 1, LEASE_SECONDS)
        left = seats_of(factory, job)[1]
        assert (left.outcome, left.message, left.exit_code, left.failing_rank) == ("user_code", "broke", 1, 1)


class TestGiveBack:
    def test_the_whole_attempt_ends_as_a_hand_over(self, factory: Factory) -> None:
        job = submit_gang(factory)
        claim(factory, job)
        for _ in range(7):  # more often than a job may lose its runner
            seat = seats_of(factory, job)[-1]
            write(factory.database, give_back, seat, Outcome.PREEMPTED, "its slots were taken by another job")
            after = factory.get(Job, job.id)
            assert (after.state, after.reason, after.not_before <= factory.database.now()) == ("queued", "preempted", True)
            assert claim(factory, job) is not None


class TestUnready:
    def test_a_seat_nobody_took_ends_the_attempt(self, factory: Factory) -> None:
        job = submit_gang(factory)
        claim(factory, job)
        write(factory.database, take, seats_of(factory, job)[0], ["cpu-0"], LEASE_SECONDS)
        assert write(factory.database, list_unready, 60.0) == []
        with factory.database.write() as session:
            for seat in session.exec(select(Seat)).all():
                seat.made_at -= 61.0
        (late,) = write(factory.database, list_unready, 60.0)
        assert late.node_rank == 1
        assert write(factory.database, end_unready, late, 60.0) is True
        after = factory.get(Job, job.id)
        assert (after.state, after.reason) == ("queued", "preempted")
        assert "w2@y did not begin its part (node 1) within 60 s" in after.message

    def test_one_taken_at_the_last_moment_is_kept(self, factory: Factory) -> None:
        job = submit_gang(factory)
        claim(factory, job)
        late = seats_of(factory, job)[1]
        take_all(factory, job)
        assert write(factory.database, end_unready, late, 60.0) is False
        assert factory.get(Job, job.id).state == "running"


class TestViewWorkers:
    def test_free_slots_are_those_of_the_heartbeat_less_what_was_given_away_since(self, factory: Factory) -> None:
        online(factory.database, "w1@x", total=3, free=3)
        online(factory.database, "w2@y", total=2, free=0)
        job = submit_gang(factory)
        claim(factory, job)
        views = {view.id: view for view in write(factory.database, view_workers)}
        assert views["w1@x"].free == {"cpu": 2, "gpu": 0}
        assert views["w2@y"].free == {"cpu": 0, "gpu": 0}
        assert views["w1@x"].reserved == {}, "a seat counts once"


class TestStall:
    def test_every_node_learns_of_it_and_says_where_its_ranks_are(self, factory: Factory) -> None:
        job = submit_gang(factory)
        claim(factory, job)
        _, second = take_all(factory, job)
        assert not write(factory.database, renew_seat, job.id, 1, 1, LEASE_SECONDS).is_stalled
        write(factory.database, say_stalled, job.id, 1)
        assert write(factory.database, renew_seat, job.id, 1, 1, LEASE_SECONDS).is_stalled
        assert [seat.places for seat in seats_of(factory, job)] == [None, None]
        write(factory.database, say_places, second, {1: None, 2: "wait (loader.py:7)"})
        assert [seat.places for seat in seats_of(factory, job)] == [None, {"1": None, "2": "wait (loader.py:7)"}]
        with pytest.raises(StaleAttempt):
            write(factory.database, say_stalled, job.id, 2)

    def test_the_second_time_the_machine_of_the_silent_rank_is_avoided(self, factory: Factory) -> None:
        job = submit_gang(factory)
        for attempt, avoided in ((1, []), (2, ["y"])):
            claim(factory, job)
            take_all(factory, job)
            write(factory.database, finish, job.id, attempt, Outcome.HANG, "silent", 77, 1)
            for seat in seats_of(factory, job):
                write(factory.database, leave, seat)
            assert factory.get(Job, job.id).avoid_hosts == avoided
            factory.update(job, not_before=0.0)
        (gang,) = write(factory.database, list_waiting_gangs, GRACE)
        assert gang.avoid_hosts == {"y"}
        workers = [WorkerView(name, name[-1], frozenset({"pretrain"}), {"cpu": 1}, {"cpu": 1}) for name in (*WORKERS, "w3@z")]
        assert [each.worker_ids for each in place([gang], workers)] == [("w1@x", "w3@z")]

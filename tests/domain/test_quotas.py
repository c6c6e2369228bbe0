"""Quotas as tables: which jobs are queued, which are held, and with what words."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from modelyard.domain.scheduling.quotas import (
    Moves,
    QuotaExceeded,
    Quotas,
    Use,
    Waiting,
    check_length,
    has_room,
    month_start,
    plan_moves,
    sum_hours,
    why_held,
)


class TestWhyHeld:
    @pytest.mark.parametrize(
        ("quotas", "use", "slots", "says"),
        [
            (Quotas(), Use(1000, 1000, 1000, 1000.0), 64, None),
            (Quotas(max_gpus=4), Use(), 4, None),
            (Quotas(max_gpus=4), Use(active_slots=2), 2, None),
            (
                Quotas(max_gpus=4),
                Use(active_slots=2, queued_slots=1),
                2,
                "2 of the 4 slots .* 2 are in use, 1 are for jobs queued",
            ),
            (Quotas(max_gpus=4), Use(active_slots=4), 1, "1 of the 4 slots .* 4 are in use"),
            (Quotas(max_gpus=4), Use(), 5, "Needs 5 slots at once, and max_gpus allows project apollo no more than 4"),
            (Quotas(max_gpus=0), Use(), 1, "no more than 0"),
            (Quotas(max_gpu_hours_per_month=10), Use(gpu_hours_this_month=9.99), 64, None),
            (Quotas(max_gpu_hours_per_month=10), Use(gpu_hours_this_month=10.0), 1, "used 10.00 of its 10 slot-hours"),
            (Quotas(max_gpus=1, max_gpu_hours_per_month=0), Use(), 1, "used 0.00 of its 0 slot-hours"),
        ],
    )
    def test_table(self, quotas: Quotas, use: Use, slots: int, says: str | None) -> None:
        message = why_held("apollo", quotas, use, slots)
        assert (message is None) == (says is None)
        assert re.search(says or "", message or "")


class TestLength:
    @pytest.mark.parametrize(("most", "waiting", "is_refused"), [(None, 10**6, False), (2, 1, False), (2, 2, True), (0, 0, True)])
    def test_table(self, most: int | None, waiting: int, is_refused: bool) -> None:
        quotas, use = Quotas(max_queued_jobs=most), Use(waiting_jobs=waiting)
        if not is_refused:
            check_length("apollo", quotas, use)
            return
        with pytest.raises(QuotaExceeded, match=f"has {waiting} jobs waiting .* allows {most}: wait until") as caught:
            check_length("apollo", quotas, use)
        assert (caught.value.status, caught.value.code, caught.value.field) == (429, "quota_exceeded", "max_queued_jobs")


class TestRoom:
    @pytest.mark.parametrize(
        ("most", "active", "slots", "fits"), [(None, 99, 9, True), (4, 3, 1, True), (4, 3, 2, False), (0, 0, 1, False)]
    )
    def test_table(self, most: int | None, active: int, slots: int, fits: bool) -> None:
        assert has_room(Quotas(max_gpus=most), Use(active), slots) is fits

    @pytest.mark.parametrize(
        ("budget", "used", "fits"), [(None, 99.0, True), (2.0, 1.9, True), (2.0, 2.0, False), (0.0, 0.0, False)]
    )
    def test_hours(self, budget: float | None, used: float, fits: bool) -> None:
        assert has_room(Quotas(max_gpu_hours_per_month=budget), Use(gpu_hours_this_month=used), 1) is fits


def waiting(*jobs: str) -> list[Waiting]:
    """`"2h"`: a held job of two slots; `"1q"`: a queued one; `"1h!"`: its queue is not served. In order, named a, b, c …"""
    return [
        Waiting("abcdefgh"[n], "other" if job.endswith("!") else "queue", int(job[0]), float(n), job[1] == "h", job[-1] != "!")
        for n, job in enumerate(jobs)
    ]


class TestPlan:
    @pytest.mark.parametrize(
        ("quotas", "active", "jobs", "release", "hold"),
        [
            (Quotas(max_gpus=2), 0, [], "", ""),
            (Quotas(max_gpus=2), 0, ["1h", "1h", "1h"], "ab", ""),
            (Quotas(max_gpus=2), 1, ["1h", "1h", "1h"], "a", ""),
            (Quotas(max_gpus=2), 2, ["1h"], "", ""),
            (Quotas(max_gpus=2), 5, ["1h", "1q"], "", "b"),  # the quota was lowered while five ran
            (Quotas(max_gpus=2), 0, ["1q", "1q", "1q"], "", "c"),
            (Quotas(max_gpus=2), 1, ["1h", "1q"], "a", "b"),  # a better one came
            (Quotas(max_gpus=2), 1, ["2h", "1h"], "", ""),  # nobody passes a wider one, else it would wait for ever
            (Quotas(max_gpus=2), 1, ["2h", "1q"], "", "b"),
            (Quotas(max_gpus=2), 1, ["2q", "1q"], "", "ab"),
            (Quotas(max_gpus=2), 1, ["3h", "1h"], "b", ""),  # one that can never start is no obstacle
            (Quotas(max_gpus=2), 1, ["3q", "1h"], "b", "a"),
            (Quotas(), 9, ["1h", "1q", "8h"], "ac", ""),  # the quota is gone
            (Quotas(max_gpus=0), 0, ["1q", "1h"], "", "a"),
            (Quotas(max_gpus=2), 0, ["1q!", "1q!", "1h", "1h"], "cd", ""),  # those nobody serves take no room from others
            (Quotas(max_gpus=2), 0, ["1q", "1q", "1h!", "1h!", "1h!"], "cd", ""),
            (Quotas(max_gpus=2), 2, ["1h!"], "", ""),
            (Quotas(max_gpu_hours_per_month=5), 0, ["1q", "1h", "1q!", "1h!"], "bd", ""),
        ],
    )
    def test_table(self, quotas: Quotas, active: int, jobs: list[str], release: str, hold: str) -> None:
        assert plan_moves(quotas, Use(active_slots=active), waiting(*jobs), 100) == Moves(list(release), list(hold))

    def test_nothing_starts_once_the_budget_is_spent(self) -> None:
        spent = Use(gpu_hours_this_month=5.0)
        moves = plan_moves(Quotas(max_gpu_hours_per_month=5), spent, waiting("1q", "1h", "1q!"), 100)
        assert moves == Moves([], ["a", "c"])

    def test_no_more_moves_than_asked_for(self) -> None:
        jobs = waiting("1h", "1h", "1q", "1q", "1q")
        assert plan_moves(Quotas(max_gpus=2), Use(), jobs, 3) == Moves(["a", "b"], ["c"])
        assert plan_moves(Quotas(max_gpus=2), Use(), jobs, 1) == Moves(["a"], [])

    def test_a_plan_carried_out_leaves_nothing_to_do(self) -> None:
        quotas, use = Quotas(max_gpus=4), Use(active_slots=1)
        jobs = waiting("1h", "2q", "1h", "1q", "2h", "1h!")
        moves = plan_moves(quotas, use, jobs, 100)
        held = {job.job_id: (job.is_held or job.job_id in moves.hold) and job.job_id not in moves.release for job in jobs}
        after = [replace(job, is_held=held[job.job_id]) for job in jobs]
        assert plan_moves(quotas, use, after, 100) == Moves()
        assert sum(job.slots for job in after if not job.is_held and job.is_served) <= 3


class TestMonth:
    @pytest.mark.parametrize(
        ("now", "start"),
        [
            (datetime(2026, 11, 23, 12, 30, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)),
            (datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)),
            (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
        ],
    )
    def test_start(self, now: datetime, start: datetime) -> None:
        assert month_start(now.timestamp()) == start.timestamp()

    def test_hours_count_from_its_beginning(self) -> None:
        spans = [(2, 0.0, 7200.0), (1, 3600.0, 7200.0), (8, 0.0, 3600.0)]
        assert sum_hours(spans, since=3600.0) == pytest.approx(3.0)

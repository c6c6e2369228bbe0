"""Fair share as a table, and as a small simulation of an hour in which projects compete."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.domain.scheduling.fair_share import (
    LARGEST_PENALTY_SECONDS,
    PENALTY_SECONDS,
    Head,
    ProjectUsage,
    choose,
    decay,
    find_penalties,
    rank,
    weigh,
)

HOUR, DAY = 3600.0, 86_400.0
CROWD = {"c": 1e9, "d": 1e9, "e": 1e9}
"""Projects whose jobs come much later, but that have shares of their own."""


class TestPenalty:
    @pytest.mark.parametrize(
        ("usage", "penalties"),
        [
            ({"a": ProjectUsage()}, {"a": 0.0}),
            ({"a": ProjectUsage(1, 9e9)}, {"a": 0.0}),  # alone there is no share to exceed
            ({"a": ProjectUsage(), "b": ProjectUsage()}, {"a": 0.0, "b": 0.0}),
            ({"a": ProjectUsage(1, DAY), "b": ProjectUsage(1, DAY)}, {"a": 0.0, "b": 0.0}),
            ({"a": ProjectUsage(2, 2 * DAY), "b": ProjectUsage(1, DAY)}, {"a": 0.0, "b": 0.0}),
            ({"a": ProjectUsage(1, DAY), "b": ProjectUsage()}, {"a": PENALTY_SECONDS, "b": 0.0}),
            ({"a": ProjectUsage(1, 3 * DAY), "b": ProjectUsage(1, DAY)}, {"a": PENALTY_SECONDS / 2, "b": 0.0}),
            ({"a": ProjectUsage(3, DAY), "b": ProjectUsage()}, {"a": PENALTY_SECONDS / 3, "b": 0.0}),
            ({"a": ProjectUsage(0.01, DAY), "b": ProjectUsage()}, {"a": LARGEST_PENALTY_SECONDS, "b": 0.0}),
            ({"a": ProjectUsage(1, 36.0), "b": ProjectUsage()}, {"a": PENALTY_SECONDS / 100, "b": 0.0}),  # next to nothing used
        ],
    )
    def test_table(self, usage: dict[str, ProjectUsage], penalties: dict[str, float]) -> None:
        assert find_penalties(usage) == pytest.approx(penalties)


class TestChoose:
    @pytest.mark.parametrize(
        ("keys", "used", "first"),
        [
            ({"a": 0.0, "b": 1.0}, {}, "a"),
            ({"a": 1.0, "b": 0.0}, {}, "b"),
            ({"a": 0.0, "b": 0.0}, {}, "a"),  # the older id
            ({"a": 0.0, "b": 10 * HOUR}, {"a": DAY}, "b"),
            ({"a": 0.0, "b": 25 * HOUR}, {"a": DAY}, "a"),  # it waited a day longer: fairness has its limit
            ({"a": 0.0, "b": LARGEST_PENALTY_SECONDS - 1, **CROWD}, {"a": 1e9}, "b"),
            ({"a": 0.0, "b": LARGEST_PENALTY_SECONDS + 1, **CROWD}, {"a": 1e9}, "a"),
            ({"a": -100 * 60.0, "b": 0.0}, {"a": 0.05 * DAY, "b": 0.05 * DAY}, "a"),  # priority 100 against 0, equal use
        ],
    )
    def test_table(self, keys: dict[str, float], used: dict[str, float], first: str) -> None:
        heads = [Head(project, key, f"job_{project}") for project, key in keys.items()]
        usage = {project: ProjectUsage(1.0, used.get(project, 0.0)) for project in keys}
        assert choose(heads, usage).project_id == first
        assert sorted(rank(heads, usage), key=str) == sorted(heads, key=str)


class TestDecay:
    def test_half_of_it_after_a_half_life(self) -> None:
        assert decay(100.0, 0, DAY) == 100.0
        assert decay(100.0, DAY, DAY) == pytest.approx(50.0)
        assert decay(100.0, 10 * DAY, DAY) == pytest.approx(100 / 1024)
        assert decay(100.0, -5.0, DAY) == 100.0  # a clock set back forgets nothing and adds nothing
        assert decay(100.0, 1e9, 1.0) == 0.0

    def test_a_project_is_forgiven(self) -> None:
        heads = [Head("a", 0.0, "job_a"), Head("b", HOUR, "job_b")]

        def first(days: float) -> str:
            usage = {"a": ProjectUsage(1.0, decay(DAY, days * DAY, DAY)), "b": ProjectUsage(1.0, HOUR)}
            return choose(heads, usage).project_id

        assert [first(days) for days in (0, 1, 2, 10)] == ["b", "b", "b", "a"]

    def test_what_a_job_used_is_weighed_as_if_charged_all_along(self) -> None:
        step, total = 60.0, 0.0
        for _ in range(int(2 * DAY / step)):
            total = decay(total, step, DAY) + 4 * step
        assert weigh(4, 2 * DAY, DAY) == pytest.approx(total, rel=1e-3)
        assert weigh(4, 10.0, DAY) == pytest.approx(40.0, rel=1e-4)
        assert weigh(4, -1.0, DAY) == 0.0


@dataclass
class Cluster:
    """Slots that are never idle: projects always have another job waiting, submitted at the same moment."""

    shares: dict[str, float]
    slots: int
    now: float = 0.0
    running: list[tuple[float, str, float]] = field(default_factory=list)
    """(ends at, project, started at)."""
    used: dict[str, float] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)

    def use_of(self, project: str) -> float:
        """Slot-seconds of ended and running jobs until now."""
        live = sum(self.now - started for _, owner, started in self.running if owner == project)
        return self.used.get(project, 0.0) + live

    def start(self, seconds: float) -> None:
        """Give a slot to the project whose turn it is; if none is free, after the next job has ended."""
        if len(self.running) == self.slots:
            self.running.sort()
            ends, owner, started = self.running.pop(0)
            self.now = ends
            self.used[owner] = self.used.get(owner, 0.0) + ends - started
        heads = [Head(project, 0.0, f"job_{project}") for project in self.shares]
        usage = {project: ProjectUsage(share, self.use_of(project)) for project, share in self.shares.items()}
        project = choose(heads, usage).project_id
        self.running.append((self.now + seconds, project, self.now))
        self.starts.append(project)


class TestHour:
    def test_equal_shares_alternate(self) -> None:
        cluster = Cluster({"a": 1.0, "b": 1.0}, slots=1)
        for _ in range(10):
            cluster.start(60.0)
        assert "".join(cluster.starts) == "ababababab"

    @settings(max_examples=40, deadline=None)
    @given(
        shares=st.sampled_from([(1.0, 1.0), (2.0, 1.0), (1.0, 2.0), (4.0, 2.0), (3.0, 1.0)]),
        slots=st.integers(1, 8),
        durations=st.lists(st.floats(1.0, 60.0), min_size=20, max_size=20),
    )
    def test_use_converges_to_the_shares(self, shares: tuple[float, float], slots: int, durations: list[float]) -> None:
        cluster = Cluster({"a": shares[0], "b": shares[1]}, slots)
        turn = 0
        while cluster.now < HOUR:
            cluster.start(durations[turn % len(durations)])
            turn += 1
        ratio = cluster.use_of("a") / (cluster.use_of("a") + cluster.use_of("b"))
        assert ratio == pytest.approx(shares[0] / sum(shares), abs=60.0 * slots / (HOUR * slots) + 0.02)

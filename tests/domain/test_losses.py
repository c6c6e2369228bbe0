"""Which losses count against a job: those in a row that came quickly, not those of a long life."""

import pytest

from modelyard.domain.jobs.ownership import since_last_long
from modelyard.domain.jobs.retry import LONG_ATTEMPT_SECONDS
from modelyard.domain.jobs.tables import Attempt

LONG, SHORT = LONG_ATTEMPT_SECONDS, 1.0


def attempts(*lives: tuple[str, float]) -> list[Attempt]:
    """Attempts one after the other: (outcome, how long it lasted in seconds)."""
    return [
        Attempt(id=f"att_{seq}", job_id="job_1", seq=seq, worker_id="w", outcome=outcome, started_at=0.0, finished_at=lasted)
        for seq, (outcome, lasted) in enumerate(lives, start=1)
    ]


class TestSinceLastLong:
    @pytest.mark.parametrize(
        ("lives", "counted"),
        [
            ([("node_lost", SHORT)] * 3, [1, 2, 3]),
            ([("node_lost", LONG)] * 3, [3]),
            ([("node_lost", SHORT), ("node_lost", LONG), ("node_lost", SHORT)], [2, 3]),
            ([("user_code", SHORT), ("node_lost", LONG), ("user_code", SHORT)], [1, 2, 3]),
            ([("user_code", LONG), ("user_code", LONG)], [1, 2]),
        ],
    )
    def test_table(self, lives: list[tuple[str, float]], counted: list[int]) -> None:
        assert [past.seq for past in since_last_long(attempts(*lives))] == counted

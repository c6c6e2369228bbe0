"""The claim finds its job by an index, however many jobs wait or are over."""

import pytest
from factories import LEASE_SECONDS, Factory, request_of, write
from sqlalchemy import text
from statement_plans import explain, statements

from modelyard.domain.jobs.ownership import claim
from modelyard.domain.jobs.submission import Submission, submit_many

PROJECTS, JOBS = ("a", "b", "c"), 400


@pytest.mark.parametrize("with_statistics", [True, False])
def test_no_step_reads_all_jobs(factory: Factory, with_statistics: bool) -> None:
    for project in PROJECTS:  # one after the other: the jobs of the last stand behind all others
        requests = [Submission(factory.project(project), request_of()) for _ in range(JOBS)]
        write(factory.database, submit_many, [requests])
    if with_statistics:
        with factory.database.engine.begin() as connection:
            connection.execute(text("ANALYZE"))
    with statements(factory.database) as seen:
        assert write(factory.database, claim, "prepare", "w@h", ["cpu-0"], LEASE_SECONDS) is not None
    plans = [explain(factory.database, *each) for each in seen if "FROM job" in each[0] or "JOIN job" in each[0]]
    steps = [step for plan in plans for step in plan]
    assert not [step for step in steps if "Seq Scan on job " in step or step in {"SCAN job", "SCAN job_1"}]
    # Those of one project in order, without passing those of others: for each project's best, and for the one that is taken.
    best = [step for step in steps if "ix_job_waiting" in step and ("Scan using" in step or "queue=?" in step)]
    assert len(best) == 2
    assert not [step for step in steps if "RIGHT PART OF ORDER BY" in step or "Incremental Sort" in step]

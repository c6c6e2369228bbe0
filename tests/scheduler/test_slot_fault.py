"""A scheduler dies or fails between the slot and the commit: the slot is filled once all the same."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from factories import Factory
from sqlmodel import select
from test_filling_slots import make_due

from modelyard.domain.jobs.tables import Job
from modelyard.domain.schedules.tables import ScheduleSlot

FILL = """
import sys
from modelyard.kit.database import Database
from modelyard.scheduler.schedules import fill_slots
fill_slots(Database(sys.argv[1]))
"""


class TestSlot:
    @pytest.mark.parametrize(("action", "code"), [("kill", -signal.SIGKILL), ("raise", 0)])
    def test_it_is_filled_once(self, factory: Factory, database_url: str, tmp_path: Path, action: str, code: int) -> None:
        make_due(factory, 1)
        faults = {"MODELYARD_FAULT": f"slot_before_commit:{action}:{tmp_path / 'token'}"}
        for expected, jobs in ((code, 0), (0, 1), (0, 1)):
            done = subprocess.run([sys.executable, "-c", FILL, database_url], env={**os.environ, **faults}, capture_output=True)
            assert done.returncode == expected, done.stderr
            assert len(factory.find(select(Job))) == len(factory.find(select(ScheduleSlot))) == jobs

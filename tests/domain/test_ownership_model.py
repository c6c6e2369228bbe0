"""Any order of submitting, claiming, stopping, losing and finishing: at most one owner, and every job can still end."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from ownership_machine import OwnershipMachine

# Without shrinking: each step writes to a database, so making a failure smaller takes minutes; fifty steps can be read.
PHASES = (Phase.explicit, Phase.generate)
SETTINGS = settings(deadline=None, database=None, phases=PHASES, suppress_health_check=list(HealthCheck))


class TestOwnership:
    def test_in_any_order(self, migrated_file: Path) -> None:
        self.run(migrated_file, settings(SETTINGS, max_examples=12, stateful_step_count=35, derandomize=True))

    @pytest.mark.slow
    def test_in_many_more_orders(self, migrated_file: Path) -> None:
        self.run(migrated_file, settings(SETTINGS, max_examples=80, stateful_step_count=60))

    @staticmethod
    def run(migrated_file: Path, chosen: settings) -> None:
        OwnershipMachine.migrated = migrated_file
        run_state_machine_as_test(OwnershipMachine, settings=chosen)

"""The warm parents of a worker. Nothing depends on them but speed: without one, a runner is started as a program.

There is a light one, with what every runner imports and no torch, and, where a stage needs torch, a heavy one.
"""

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelyard.domain.specs.registry import KINDS
from modelyard.kit.settings import Settings
from modelyard.kit.slots import HeldSlots
from modelyard.workers.engine.orders import Order, Papers, Plan, write_papers
from modelyard.workers.engine.parent_keeper import ParentKeeper
from modelyard.workers.engine.processes import run_folder, runner_environment, tag_of
from modelyard.workers.engine.warm_runner import WarmRunner
from modelyard.workers.registry import HEAVY, ONLINE, RECIPES
from modelyard.workers.runner.rank_environment import library_settings

if TYPE_CHECKING:  # SQLAlchemy would hold up the start of the light parent, which imports it too
    from modelyard.domain.jobs.tables import Job
    from modelyard.workers.engine.handover import Handover


@dataclass(frozen=True)
class _Parents:
    light: ParentKeeper
    heavy: ParentKeeper | None
    accelerator: str
    """What the heavy one's libraries were told they would compute on."""


class Nursery:
    """Forks runners for a worker, if it can."""

    def __init__(self, settings: Settings, stages: list[str], has_gpus: bool, light: ParentKeeper | None = None) -> None:
        """`light`: the keeper of the light parent, if it was started already."""
        self._settings = settings
        self._lock = threading.Lock()
        self._is_over = False
        kinds = [name for name, kind in KINDS.items() if kind.stage in stages]
        heavy = list(dict.fromkeys(module for kind in kinds for module in HEAVY.get(kind, ())))
        recipes = [RECIPES[kind] for kind in kinds]
        accelerator = "gpu" if has_gpus else "cpu"
        environment = _environment(settings, accelerator)
        self._parents = _Parents(
            _keep(Plan(environment, [], recipes), light),
            _keep(Plan(environment, [*heavy, *recipes], [])) if heavy else None,
            accelerator,
        )

    def start(self) -> None:
        """Begin to import what is wanted ahead of any job."""
        light = self._parents.light
        if self._settings.warm_parents == "never":
            light.stop()
        elif light.ident is None:
            light.start()
        if self._settings.warm_parents == "always":
            self._start_heavy()

    def wait(self) -> None:
        """Give the light parent the moment it still needs: what is started as a program imports the same, twice in a row."""
        self._parents.light.wait()

    def after(self, job: "Job") -> None:
        """A job ran to its end. The first that needed torch is a sign that more will come: import it for them."""
        if self._settings.warm_parents == "after_use" and job.kind in HEAVY:
            self._start_heavy()

    def _start_heavy(self) -> None:
        with self._lock:
            if self._parents.heavy is not None and self._parents.heavy.ident is None and not self._is_over:
                self._parents.heavy.start()

    def stop(self) -> None:
        """End the parents; runners live on."""
        with self._lock:
            self._is_over = True
        for parent in self.keepers():
            parent.stop()

    def keepers(self) -> list[ParentKeeper]:
        """Those that keep the parents, the warmest first."""
        return [parent for parent in (self._parents.heavy, self._parents.light) if parent is not None]

    def start_runner(
        self, job: "Job", held: HeldSlots, node_rank: int = 0, handover: "Handover | None" = None
    ) -> WarmRunner | None:
        """Fork the runner of an attempt; None if no parent suits it now."""
        environment = runner_environment(self._settings, tag_of(job.id, job.attempt, node_rank), held)
        papers = write_papers(Papers(environment, handover.to_document() if handover else None))
        try:
            for parent in self._suitable(job, held):
                runner = parent.bear(self._order(parent, job, held, node_rank), (papers, *held.descriptors))
                if runner is not None:
                    return runner
        finally:
            os.close(papers)
        return None

    def _suitable(self, job: "Job", held: HeldSlots) -> list[ParentKeeper]:
        if job.kind in HEAVY and (held.accelerator == self._parents.accelerator) and job.kind not in ONLINE:
            return self.keepers()
        return [self._parents.light]

    def _order(self, parent: ParentKeeper, job: "Job", held: HeldSlots, node_rank: int) -> Order:
        return Order(
            number=parent.next_number(),
            folder=str(run_folder(self._settings, job.id, job.attempt, node_rank)),
            job_id=job.id,
            attempt=job.attempt,
            node_rank=node_rank,
            ranks=len(held.slots),
        )


def _keep(plan: Plan, keeper: ParentKeeper | None = None) -> ParentKeeper:
    keeper = keeper or ParentKeeper()
    keeper.tell(plan)
    return keeper


def _environment(settings: Settings, accelerator: str) -> dict[str, str]:
    return {
        **library_settings(settings.folder("cache"), is_online=False),
        "DS_ACCELERATOR": "cuda" if accelerator == "gpu" else "cpu",
    }

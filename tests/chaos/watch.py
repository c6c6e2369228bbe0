"""Looking at a platform while things go wrong: problems that stay are seen at once, not only at the end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic

from sqlmodel import col, select

from modelyard.domain.invariants.examination import Examiner
from modelyard.domain.jobs.tables import Attempt
from modelyard.kit.broker import Broker, BrokerErrors
from modelyard.kit.database import Database
from modelyard.kit.settings import Settings
from modelyard.kit.storage import ArtifactStore
from tests.chaos.verdict import find_overlaps, read_witnesses

LOOK_EVERY_SECONDS = 1.5
SURE_SECONDS = 8.0
"""What looks wrong so long at every look is no job between two places: the relay rings within 2 s, a busy machine's within 5."""


@dataclass
class Watch:
    """Remembers since when something looks wrong."""

    database: Database
    settings: Settings
    symptoms: Sequence[str]
    """Parts of the problems looked for."""
    _since: dict[tuple[str, str | None], float] = field(default_factory=dict)
    _next_at: float = 0.0

    def look(self) -> list[str]:
        """What is wrong for sure by now, of what is looked for; nothing if the last look was a moment ago."""
        if not self.symptoms or monotonic() < self._next_at:
            return []
        found = [*self._find_overlaps(), *self._find_lasting()]
        self._next_at = monotonic() + LOOK_EVERY_SECONDS
        return [problem for problem in found if any(symptom in problem for symptom in self.symptoms)]

    def _find_overlaps(self) -> Iterator[str]:
        with self.database.read() as session:
            attempts = session.exec(select(Attempt).order_by(Attempt.job_id, col(Attempt.seq))).all()
        for job_id, witnesses in read_witnesses(self.settings.data_dir, attempts).items():
            yield from find_overlaps(job_id, witnesses)

    def _find_lasting(self) -> list[str]:
        """What breaks an invariant now and at every look since it may be called lasting."""
        store = ArtifactStore(self.settings.artifacts, self.settings.folder("cache") / "artifacts")
        examiner = Examiner(self.database, store, Broker(self.settings).count_tickets, BrokerErrors, lambda: None)
        now, found = monotonic(), {(each.invariant, each.job_id): each.message for each in examiner.examine().violations}
        self._since = {key: self._since.get(key, now) for key in found}
        return [f"{key[0]}: {message}" for key, message in found.items() if now - self._since[key] >= SURE_SECONDS]

"""Workers' signs of life, and the one leader among several schedulers."""

import threading
import time

from factories import Factory, write

from modelyard.domain.workers import repository
from modelyard.domain.workers.tables import Leadership, Worker


def worker(name: str, silent_seconds: float = 0.0, state: str = "online") -> Worker:
    """A worker that was heard of so long ago."""
    now = time.time() - silent_seconds
    return Worker(id=name, host="host", pid=1, queues=["finetune"], state=state, started_at=now, heartbeat_at=now)


class TestReport:
    def test_replaces_its_row(self, factory: Factory) -> None:
        write(factory.database, repository.report_worker, worker("a"))
        write(factory.database, repository.report_worker, worker("a", state="draining"))
        with factory.database.read() as session:
            assert [(row.id, row.state) for row in repository.list_workers(session)] == [("a", "draining")]
            assert repository.list_online(session) == []

    def test_the_silent_are_offline(self, factory: Factory) -> None:
        for row in (worker("heard"), worker("silent", repository.SILENT_SECONDS + 5)):
            write(factory.database, repository.report_worker, row)
        with factory.database.read() as session:
            assert [row.id for row in repository.list_online(session)] == ["heard"]
        assert write(factory.database, repository.mark_silent_offline) == 1
        assert factory.get(Worker, "silent").state == "offline"
        assert write(factory.database, repository.mark_silent_offline) == 0


class TestLead:
    def test_one_holder_until_it_leaves(self, factory: Factory) -> None:
        assert self.take(factory, "a")
        assert not self.take(factory, "b")
        assert self.take(factory, "a")
        assert self.leader(factory) == "a"
        write(factory.database, repository.leave_lead, "scheduler", "b")  # not its to give up
        assert not self.take(factory, "b")
        write(factory.database, repository.leave_lead, "scheduler", "a")
        assert self.leader(factory) is None
        assert self.take(factory, "b")

    def test_a_lease_that_ran_out_is_free(self, factory: Factory) -> None:
        assert self.take(factory, "a", seconds=-1)
        assert self.take(factory, "b")
        assert not self.take(factory, "a")

    def test_one_of_many_at_once(self, factory: Factory) -> None:
        taken: list[str] = []

        def try_it(name: str) -> None:
            if self.take(factory, name):
                taken.append(name)

        threads = [threading.Thread(target=try_it, args=(name,)) for name in "abcdefgh"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert taken == [factory.get(Leadership, "scheduler").holder]

    @staticmethod
    def take(factory: Factory, holder: str, seconds: float = 60) -> bool:
        return bool(write(factory.database, repository.take_lead, "scheduler", holder, seconds))

    @staticmethod
    def leader(factory: Factory) -> str | None:
        with factory.database.read() as session:
            return repository.find_leader(session, "scheduler")

"""Group commit: many in one transaction, each answered after the commit, a bad one fails alone."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from modelyard.kit.commits import MAX_GROUP, MAX_WAITING, GroupCommit, TooManyWaiting, WriterClosed
from modelyard.kit.database import Database

TABLES = MetaData()
NUMBER = Table("number", TABLES, Column("value", Integer, primary_key=True))


class Refused(Exception):
    """What a write answers for an item it does not take."""


class Writes:
    """A write that keeps the groups it was given, and lets go of the first when told to."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, session: Session, items: Sequence[int]) -> list[int | Exception]:
        """Insert the items; refuse negative ones."""
        self.groups.append(list(items))
        self.may_go_on.wait(30)
        good = [item for item in items if item >= 0]
        if good:
            session.execute(insert(NUMBER), [{"value": item} for item in good])
        return [item * 10 if item >= 0 else Refused(str(item)) for item in items]


@pytest.fixture
def writes() -> Writes:
    """The write of the test."""
    return Writes()


@pytest.fixture
def group(database: Database, writes: Writes) -> Iterator[GroupCommit[int, int]]:
    """A group commit over a table of numbers."""
    TABLES.create_all(database.engine)
    group = GroupCommit(database, writes)
    yield group
    writes.may_go_on.set()
    group.close()
    TABLES.drop_all(database.engine)


def stored(database: Database) -> set[int]:
    """The numbers committed so far."""
    with database.read() as session:
        return set(session.execute(select(NUMBER.c.value)).scalars())


async def commit_behind_one(group: GroupCommit[int, int], writes: Writes, items: Sequence[int]) -> list[Any]:
    """Commit items that queue up while an item before them is being written."""
    writes.may_go_on.clear()
    first = asyncio.ensure_future(group.commit(1_000_000))
    while not writes.groups:
        await asyncio.sleep(0.001)
    rest = [asyncio.ensure_future(group.commit(item)) for item in items]
    await asyncio.sleep(0)
    writes.may_go_on.set()
    return (await asyncio.gather(first, *rest, return_exceptions=True))[1:]


class TestCommit:
    def test_what_queued_up_shares_a_transaction(self, database: Database, group: GroupCommit[int, int], writes: Writes) -> None:
        answers = asyncio.run(commit_behind_one(group, writes, range(50)))
        assert answers == [item * 10 for item in range(50)]
        assert writes.groups == [[1_000_000], list(range(50))]
        assert stored(database) == {*range(50), 1_000_000}

    def test_an_answer_comes_after_the_commit(self, database: Database, group: GroupCommit[int, int]) -> None:
        async def look() -> set[int]:
            await group.commit(7)
            return stored(database)

        assert 7 in asyncio.run(look())

    def test_a_refused_item_is_answered_alone(self, database: Database, group: GroupCommit[int, int], writes: Writes) -> None:
        answers = asyncio.run(commit_behind_one(group, writes, [1, -2, 3]))
        assert isinstance(answers[1], Refused)
        assert (answers[0], answers[2]) == (10, 30)
        assert stored(database) == {1, 3, 1_000_000}
        assert len(writes.groups) == 2

    def test_a_broken_item_fails_alone(self, database: Database, group: GroupCommit[int, int], writes: Writes) -> None:
        answers = asyncio.run(commit_behind_one(group, writes, [1, 2, 2, 3]))
        assert isinstance(answers[2], IntegrityError)
        assert answers[:2] == [10, 20]
        assert answers[3] == 30
        assert stored(database) == {1, 2, 3, 1_000_000}

    def test_a_group_is_bounded(self, group: GroupCommit[int, int], writes: Writes) -> None:
        asyncio.run(commit_behind_one(group, writes, range(MAX_GROUP + 10)))
        assert [len(each) for each in writes.groups] == [1, MAX_GROUP, 10]

    def test_heavy_items_fill_it_sooner(self, database: Database, writes: Writes) -> None:
        TABLES.create_all(database.engine)
        group = GroupCommit(database, writes, weigh=lambda item: MAX_GROUP // 2)
        asyncio.run(commit_behind_one(group, writes, range(5)))
        group.close()
        assert [len(each) for each in writes.groups] == [1, 2, 2, 1]

    def test_so_is_what_waits(self, group: GroupCommit[int, int], writes: Writes) -> None:
        answers = asyncio.run(commit_behind_one(group, writes, range(MAX_WAITING + 3)))
        assert sum(isinstance(answer, TooManyWaiting) for answer in answers) == 3

    def test_who_went_away_disturbs_nobody(self, database: Database, group: GroupCommit[int, int], writes: Writes) -> None:
        async def leave() -> int:
            writes.may_go_on.clear()
            leaving, staying = asyncio.ensure_future(group.commit(1)), asyncio.ensure_future(group.commit(2))
            await asyncio.sleep(0)
            leaving.cancel()
            writes.may_go_on.set()
            return await staying

        assert asyncio.run(leave()) == 20
        assert stored(database) == {1, 2}


class TestClose:
    def test_writes_what_waits_and_takes_no_more(self, database: Database, group: GroupCommit[int, int], writes: Writes) -> None:
        async def close() -> list[int]:
            writes.may_go_on.clear()
            waiting = [asyncio.ensure_future(group.commit(item)) for item in range(5)]
            await asyncio.sleep(0)
            closing = asyncio.get_running_loop().run_in_executor(None, group.close)
            writes.may_go_on.set()
            await closing
            with pytest.raises(WriterClosed):
                await group.commit(9)
            return await asyncio.gather(*waiting)

        assert asyncio.run(close()) == [0, 10, 20, 30, 40]
        with database.read() as session:
            assert session.execute(select(func.count()).select_from(NUMBER)).scalar_one() == 5

    def test_of_one_never_used(self, database: Database, writes: Writes) -> None:
        GroupCommit(database, writes).close()
        assert writes.groups == []

"""One database class, two databases: no update is lost, readers do not wait, JSON and text arrive as they can."""

import math
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Column, Double, MetaData, Table, Text, func, insert, select, update
from sqlalchemy.types import JSON
from waiting_processes import run_at_once

from modelyard.kit.database import Database, read_clock, write_json

PROCESSES, UPDATES = 4, 150
# Reads a number and writes it back one larger, many times; waits for the word to begin, so that all begin together.
INCREMENT = """
import sys
from sqlalchemy import text
from modelyard.kit.database import Database
database = Database(sys.argv[1])
lock = " FOR UPDATE" if database.engine.dialect.name == "postgresql" else ""
print("ready", flush=True)
input()
for _ in range(int(sys.argv[2])):
    with database.write() as session:
        number = session.execute(text("SELECT value FROM counter" + lock)).scalar_one()
        session.execute(text("UPDATE counter SET value = :value"), {"value": number + 1})
"""
TABLES = MetaData()
COUNTER = Table("counter", TABLES, Column("value", Double))
THING = Table("thing", TABLES, Column("text", Text), Column("json", JSON))


@pytest.fixture
def ready(database: Database) -> Iterator[Database]:
    """A database with two tables of the tests."""
    TABLES.create_all(database.engine)
    with database.write() as session:
        session.execute(insert(COUNTER).values(value=0))
    yield database
    TABLES.drop_all(database.engine)


class TestWrite:
    def test_no_update_is_lost(self, ready: Database, database_url: str) -> None:
        ended = run_at_once(INCREMENT, [[database_url, str(UPDATES)]] * PROCESSES)
        assert [each.code for each in ended] == [0] * PROCESSES, ended
        with ready.read() as session:
            assert session.execute(select(COUNTER.c.value)).scalar_one() == PROCESSES * UPDATES

    def test_what_raises_is_rolled_back(self, ready: Database) -> None:
        def fail() -> None:
            with ready.write() as session:
                session.execute(update(COUNTER).values(value=7))
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        with ready.read() as session:
            assert session.execute(select(COUNTER.c.value)).scalar_one() == 0


class TestRead:
    def test_readers_do_not_wait_for_a_writer(self, ready: Database) -> None:
        seen: list[float] = []

        def look() -> None:
            with ready.read() as session:
                seen.append(session.execute(select(COUNTER.c.value)).scalar_one())

        with ready.write() as session:
            session.execute(update(COUNTER).values(value=7))
            reader = threading.Thread(target=look)
            reader.start()
            reader.join(timeout=5)
            assert seen == [0]  # answered while the writer holds its lock, and without what is not committed
        look()
        assert seen == [0, 7]


class TestClock:
    def test_moves_within_a_transaction(self, database: Database) -> None:
        with database.read() as session:
            first = read_clock(session)
            while read_clock(session) == first:
                pass  # ends only if the clock does not stand still as SQL's now() would
            assert read_clock(session) > first

    def test_compares_as_a_number(self, ready: Database) -> None:
        now = ready.now()
        with ready.write() as session:
            session.execute(update(COUNTER).values(value=now + 30))
        with ready.read() as session:
            from modelyard.kit.database import database_now

            later = select(func.count()).select_from(COUNTER).where(COUNTER.c.value > database_now() + 29)
            assert session.execute(later).scalar_one() == 1
            assert session.execute(later.where(COUNTER.c.value > database_now() + 31)).scalar_one() == 0


class TestStore:
    def test_json_without_nan(self, ready: Database) -> None:
        value = {"loss": math.nan, "deep": [math.inf, 1.5, {"x": -math.inf}], "text": "NaN"}
        with ready.write() as session:
            session.execute(insert(THING).values(text="", json=value))
        with ready.read() as session:
            stored = session.execute(select(THING.c.json)).scalar_one()
        assert stored == {"loss": None, "deep": [None, 1.5, {"x": None}], "text": "NaN"}

    def test_text_with_nul(self, ready: Database) -> None:
        with ready.write() as session:
            session.execute(insert(THING).values(text="a\0b", json={"text": "a\0b"}))
        with ready.read() as session:
            text, document = session.execute(select(THING.c.text, THING.c.json)).one()
        assert text in {"a\0b", "a\ufffdb"}  # PostgreSQL has no NUL in text
        assert document == {"text": "a\0b"}

    def test_finite_json_is_left_alone(self) -> None:
        assert write_json({"a": [1, 2.5, None, "ä"]}) == '{"a": [1, 2.5, null, "\\u00e4"]}'

"""The database: one engine for SQLite and PostgreSQL, sessions for reading and for writing, the database's own clock.

Times are stored as seconds since the epoch (UTC) in double precision, so that leases compare the same on both databases.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Double, Engine, create_engine, event, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, TimeoutError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlmodel import Session

DatabaseAway = (OperationalError, InterfaceError, InternalError, TimeoutError)
"""What is raised while the database does not answer or, after a failover, only reads: worth waiting for."""
POSTGRESQL_TIMEOUTS = {
    "connect_timeout": 5,  # seconds
    "tcp_user_timeout": 10_000,  # milliseconds: a cut network is noticed, not waited for
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
_READ_ONLY = "modelyard_read_only"


class database_now(FunctionElement[float]):
    """The database's clock in seconds since the epoch; the only clock leases are judged by."""

    type = Double()
    inherit_cache = True
    name = "database_now"


@compiles(database_now, "sqlite")
def _sqlite_now(element: Any, compiler: Any, **options: Any) -> str:
    # unixepoch('subsec') needs SQLite 3.42; Debian 12 has 3.40.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_now, "postgresql")
def _postgresql_now(element: Any, compiler: Any, **options: Any) -> str:
    # clock_timestamp, not now(): now() stands still within a transaction.
    return "extract(epoch from clock_timestamp())::double precision"


_CLOCK = select(database_now())  # made once: making it takes longer than SQLite takes to answer it


def read_clock(session: Session) -> float:
    """The database's clock, read within a session."""
    return float(session.connection().execute(_CLOCK).scalar_one())


class Database:
    """Hands out sessions. One per process; safe to share between threads."""

    def __init__(self, url: str) -> None:
        self.engine = _make_engine(url)
        self._reader = self.engine.execution_options(**{_READ_ONLY: True})

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction that may write: committed at the end of the block, rolled back if it raises."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One transaction that only reads; on SQLite it does not wait for writers."""
        with Session(self._reader, expire_on_commit=False, autoflush=False) as session:
            yield session

    def now(self) -> float:
        """The database's clock."""
        with self.read() as session:
            return read_clock(session)

    def dispose(self) -> None:
        """Close pooled connections."""
        self.engine.dispose()


def _make_engine(url: str) -> Engine:
    pool = {"pool_size": 10, "max_overflow": 20, "json_serializer": write_json, "hide_parameters": True}
    if make_url(url).get_backend_name() != "sqlite":
        engine = create_engine(url, pool_pre_ping=True, connect_args=POSTGRESQL_TIMEOUTS, **pool)
        event.listen(engine, "connect", _prepare_postgresql)
        return engine
    file = make_url(url).database
    if file:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False}, **pool)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


_finite_json = json.JSONEncoder(allow_nan=False).encode


def write_json(value: Any) -> str:
    """JSON as RFC 8259 has it: NaN and infinity, which PostgreSQL and browsers refuse, become null."""
    try:
        return _finite_json(value)
    except ValueError:
        return _finite_json(_finite(value))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _prepare_postgresql(connection: Any, record: Any) -> None:
    from psycopg.types.string import StrDumper

    class TextDumper(StrDumper):
        """PostgreSQL's text cannot hold NUL, which logs, answers and what users type may; SQLite keeps it."""

        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))

    connection.adapters.register_dumper(str, TextDumper)
    # As on any disk without moving parts. At the default of 4, walking through everybody's jobs in order seems cheaper than
    # going straight to those of one project.
    connection.autocommit = True
    connection.execute("SET random_page_cost = 1.1")
    connection.autocommit = False


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # we send BEGIN ourselves, see below
    # PostgreSQL has it; SQLite only where it was built with mathematical functions.
    connection.create_function("power", 2, math.pow, deterministic=True)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads and then writes fails or loses updates under concurrency; IMMEDIATE queues up instead.
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

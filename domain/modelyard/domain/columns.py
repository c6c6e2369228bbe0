"""Column types used by all tables."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Double, Integer, Text
from sqlmodel import Field


def json_field(default: Any = dict) -> Any:
    """A JSON column with an empty container as default."""
    return Field(default_factory=default, sa_type=JSON)


def time_field(nullable: bool = True, index: bool = False) -> Any:
    """Seconds since the epoch, UTC, double precision."""
    if nullable:
        return Field(default=None, sa_type=Double, index=index)
    return Field(sa_type=Double, index=index)


def serial_field() -> Any:
    """A number the database counts up, with 64 bits: metric points of a few hundred machines outgrow 32."""
    # SQLite counts only columns declared INTEGER, which have 64 bits there.
    return Field(default=None, primary_key=True, sa_type=BigInteger().with_variant(Integer(), "sqlite"))


def text_field(default: str = "") -> Any:
    """Text without a length limit."""
    return Field(default=default, sa_type=Text)

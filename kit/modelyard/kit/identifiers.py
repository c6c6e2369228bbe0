"""Identifiers: a prefix that says what it is, and a UUIDv7, so that ids sort by time (RFC 9562)."""

import secrets

import uuid_utils


def new_id(prefix: str) -> str:
    """A fresh id such as `job_0192f3…`; later ids sort after earlier ones."""
    return f"{prefix}_{uuid_utils.uuid7().hex}"


def new_secret(prefix: str) -> str:
    """A secret with 256 bits of entropy, recognisable by its prefix, e.g. `my_Jx…`."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"

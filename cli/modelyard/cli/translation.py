"""Errors of libraries that a person can mend, as errors of the command line.

Recognised by name: importing SQLAlchemy only to compare types would make every command slow.
"""

from collections.abc import Callable
from typing import Any

from modelyard.cli.errors import CommandError, WrongUsage


def translate(error: BaseException) -> CommandError | None:
    """The same error in the command line's words; None for one that is our own mistake."""
    for kind in type(error).__mro__:
        expected = _EXPECTED.get(f"{kind.__module__}.{kind.__qualname__}")
        if expected is not None:
            return expected(error)
    return None


def _wrong_settings(error: Any) -> CommandError | None:
    if error.title != "Settings":
        return None
    wrong = [f"MODELYARD_{str(each['loc'][0]).upper()}: {each['msg']} (given: {each['input']!r})" for each in error.errors()]
    return WrongUsage("; ".join(wrong) + "; .env.example lists every setting")


def _database(error: Any) -> CommandError:
    cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    return CommandError(f"The database cannot be used ({cause}): start it, or correct MODELYARD_DATABASE_URL")


def _file(error: Any) -> CommandError | None:
    if error.filename is None:
        return None
    return CommandError(f"{error.filename}: {error.strerror}; choose another folder, or mend its permissions")


def _no_text(error: Any) -> CommandError:
    found = ascii(error.object[error.start : error.end])  # no more of it: it may be a key
    return WrongUsage(
        f"{found} cannot be written as {error.encoding} ({error.reason}): look at the arguments, at MODELYARD_API_KEY, "
        "and at the encoding of this terminal"
    )


_EXPECTED: dict[str, Callable[[Any], CommandError | None]] = {
    "pydantic_core._pydantic_core.ValidationError": _wrong_settings,
    "sqlalchemy.exc.SQLAlchemyError": _database,
    "builtins.OSError": _file,
    "builtins.UnicodeEncodeError": _no_text,
}

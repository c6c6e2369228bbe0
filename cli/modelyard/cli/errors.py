"""Errors a command may end with. Each says what is wrong and the way out, and carries the exit code scripts rely on."""


class CommandError(Exception):
    """A command cannot go on; shown as one message, never as a traceback."""

    exit_code = 1


class JobFailed(CommandError):
    """The job, or a job of the pipeline, did not succeed."""

    exit_code = 1


class WrongUsage(CommandError):
    """What was typed, or a file that was given, cannot be understood."""

    exit_code = 2


class NotFound(CommandError):
    """There is no such thing on the platform."""

    exit_code = 3


class AccessDenied(CommandError):
    """The API key is missing, unknown or not allowed to do this."""

    exit_code = 4


class Conflict(CommandError):
    """It is already there, already running, or in a state that does not allow this."""

    exit_code = 5


class ServerUnreachable(CommandError):
    """No platform answers."""

    exit_code = 6


class WaitTimedOut(CommandError):
    """The wait ended before what was waited for; the work goes on."""

    exit_code = 124


_BY_STATUS: dict[int, type[CommandError]] = {
    400: WrongUsage,
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    409: Conflict,
    413: WrongUsage,
    422: WrongUsage,
    429: Conflict,
    502: ServerUnreachable,
    503: ServerUnreachable,
    504: ServerUnreachable,
}


def error_from_status(status: int, message: str) -> CommandError:
    """The error that fits an HTTP status."""
    return _BY_STATUS.get(status, CommandError)(message)

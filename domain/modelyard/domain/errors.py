"""Errors that are sentences: each names the thing and the way out, and carries the HTTP status and code it deserves."""


class DomainError(Exception):
    """Something a user can act upon."""

    status = 400
    code = "bad_request"

    def __init__(self, message: str, *, field: str | None = None, value: object = None) -> None:
        super().__init__(message)
        self.field = field
        self.value = value
        self.position: int | None = None
        """Which of several things made together it is about, from 0."""


class NotFound(DomainError):
    """There is no such thing, or it belongs to another project."""

    status = 404
    code = "not_found"


class UnknownReference(DomainError):
    """A spec names something that is not there."""

    status = 422
    code = "unknown_reference"


class InvalidRequest(DomainError):
    """A field has a value that cannot be used."""

    status = 422
    code = "invalid_request"


class Conflict(DomainError):
    """The thing is in a state that does not allow this now."""

    status = 409
    code = "conflict"


class IdempotencyMismatch(DomainError):
    """The same Idempotency-Key came with another body."""

    status = 422
    code = "idempotency_key_reused"

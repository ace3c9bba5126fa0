"""The one error class for wrong input or wrong state, and the closed list of its codes.

Expected refusals of a request at the edge are not errors: they are `core.decision.Reason` values.
`api/errors.py` maps each code to an HTTP status and an API v4 error number; nothing else does.
"""

from __future__ import annotations

from enum import StrEnum


class ErrorCode(StrEnum):
    """What went wrong, for programs. The public sentence says what to do about it."""

    INVALID_INPUT = "invalid_input"
    UNSUPPORTED = "unsupported"
    NOT_FOUND = "not_found"
    GONE = "gone"
    ALREADY_EXISTS = "already_exists"
    IN_USE = "in_use"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    TOO_LARGE = "too_large"
    WRONG_CONTENT_TYPE = "wrong_content_type"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class ForegateError(Exception):
    """A refused input or state.

    `message` is public: one sentence that says what to do next, never a secret.
    `detail` is for the log alone. `pointer` names the field at fault (JSON pointer), if one is.
    """

    def __init__(self, code: ErrorCode, message: str, *, detail: str = "", pointer: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.detail = detail
        self.pointer = pointer


def invalid(message: str, *, pointer: str | None = None) -> ForegateError:
    """An input that is not of the form asked for."""
    return ForegateError(ErrorCode.INVALID_INPUT, message, pointer=pointer)


def unsupported(message: str, *, pointer: str | None = None) -> ForegateError:
    """An input that Cloudflare knows and Foregate does not act on: refused, never stored and ignored."""
    return ForegateError(ErrorCode.UNSUPPORTED, message, pointer=pointer)


def not_found(what: str) -> ForegateError:
    """`what` is a noun phrase, such as 'service token'."""
    return ForegateError(ErrorCode.NOT_FOUND, f"{what} not found; check the id and the account.")

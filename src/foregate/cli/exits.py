"""The exit codes of `foregate`, and which failure gives which. They are a promise (docs/reference/cli.md)."""

from __future__ import annotations

from enum import IntEnum

from foregate.core.errors import ErrorCode, ForegateError
from foregate.services.control_client import Refused, Unreachable


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_AUTHORISED = 4
    UNREACHABLE = 5


class Failure(Exception):
    """A command cannot go on. The text is a sentence for people."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def exit_code_of(error: Exception) -> ExitCode | None:
    """The exit code of an expected failure; None for a bug, which is to crash."""
    match error:
        case Failure(code=code):
            return code
        case Unreachable():
            return ExitCode.UNREACHABLE
        case Refused(status=404):
            return ExitCode.NOT_FOUND
        case Refused(status=401 | 403):
            return ExitCode.NOT_AUTHORISED
        case Refused():
            return ExitCode.FAILED
        case ForegateError(code=ErrorCode.NOT_FOUND):
            return ExitCode.NOT_FOUND
        case ForegateError(code=ErrorCode.INVALID_INPUT):
            return ExitCode.USAGE
        case ForegateError():
            return ExitCode.FAILED
        case _:
            return None

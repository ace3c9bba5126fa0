"""Every expected failure has an exit code of its own, and a bug has none."""

from __future__ import annotations

import pytest

from foregate.cli.exits import ExitCode, Failure, exit_code_of
from foregate.core.errors import ErrorCode, ForegateError, invalid
from foregate.services.control_client import Refused, Unreachable


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Failure(ExitCode.NOT_FOUND, "no"), 3),
        (Unreachable("no"), 5),
        (Refused(404, 12135, "no"), 3),
        (Refused(401, 10000, "no"), 4),
        (Refused(403, 9109, "no"), 4),
        (Refused(400, 12139, "no"), 1),
        (Refused(503, 1000, "no"), 1),
        (invalid("no"), 2),
        (ForegateError(ErrorCode.UNAVAILABLE, "no"), 1),
    ],
    ids=str,
)
def test_expected_failures(error: Exception, code: int) -> None:
    assert exit_code_of(error) == code


def test_a_bug_is_to_crash() -> None:
    assert exit_code_of(KeyError("bug")) is None

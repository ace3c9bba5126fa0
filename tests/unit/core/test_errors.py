"""The one error class."""

from __future__ import annotations

import pytest

from foregate.core.errors import ErrorCode, ForegateError, invalid, not_found, unsupported


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (invalid("Give a name.", pointer="/name"), ErrorCode.INVALID_INPUT),
        (unsupported("Leave it out.", pointer="/name"), ErrorCode.UNSUPPORTED),
        (not_found("service token"), ErrorCode.NOT_FOUND),
    ],
)
def test_error_carries_code_public_sentence_and_pointer(error: ForegateError, code: ErrorCode) -> None:
    assert error.code is code
    assert str(error) == error.message and error.message.endswith(".")


def test_detail_is_not_in_the_public_sentence() -> None:
    error = ForegateError(ErrorCode.INTERNAL, "Try again.", detail="inner")

    assert "inner" not in str(error)

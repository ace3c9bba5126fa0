"""Identifiers."""

from __future__ import annotations

import re

import pytest

from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.ids import (
    ACCOUNT_ID,
    CLIENT_ID,
    new_account_id,
    new_audience,
    new_client_id,
    new_uuid,
    parse_uuid,
)


def test_new_identifiers_have_the_forms_that_clients_expect() -> None:
    assert CLIENT_ID.fullmatch(new_client_id())
    assert ACCOUNT_ID.fullmatch(new_account_id())
    assert re.fullmatch("[0-9a-f]{64}", new_audience())
    assert parse_uuid(new_uuid(), "token")


@pytest.mark.parametrize("make", [new_uuid, new_account_id, new_client_id, new_audience])
def test_new_identifiers_differ(make: object) -> None:
    assert len({make() for _ in range(100)}) == 100  # type: ignore[operator]


def test_uuid_is_kept_in_lower_case() -> None:
    assert parse_uuid("F47AC10B-58CC-4372-A567-0E02B2C3D479", "token") == "f47ac10b-58cc-4372-a567-0e02b2c3d479"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "f47ac10b58cc4372a5670e02b2c3d479",
        "{f47ac10b-58cc-4372-a567-0e02b2c3d479}",
        "urn:uuid:f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "f47ac10b-58cc-4372-a567-0e02b2c3d47",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479 ",
        None,
        7,
        ["f47ac10b-58cc-4372-a567-0e02b2c3d479"],
    ],
)
def test_other_values_are_no_uuid(text: object) -> None:
    with pytest.raises(ForegateError, match="token id must be a UUID") as caught:
        parse_uuid(text, "token", pointer="/id")  # type: ignore[arg-type]

    assert (caught.value.code, caught.value.pointer) == (ErrorCode.INVALID_INPUT, "/id")

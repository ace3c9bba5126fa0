"""A line of `foregate events tail` fits the terminal, and has everything where there is no terminal."""

from __future__ import annotations

import pytest

from foregate.cli.events import line_of, parts_within

EVENT = {
    "at": "2026-11-28T17:01:00.158Z",
    "outcome": "refused",
    "reason": "credentials_malformed",
    "status": 401,
    "method": "GET",
    "host": "echo.localhost",
    "path": "/a/path",
    "client_id": f"{'1' * 32}.access",
    "ip": "255.255.255.255",
    "ray_id": "df96ea06581346cd",
}


@pytest.mark.parametrize("width", [80, 100, 120, 140, 160, 180])
def test_a_line_fits_the_terminal(width: int) -> None:
    line = line_of(EVENT, parts_within(width))
    assert len(line) <= width
    assert "credentials_malformed  401  GET echo.localhost/a/path" in line


def test_the_client_id_is_spared_last() -> None:
    assert [name for width in (80, 120, 140, 160) for name in sorted(parts_within(width))] == [
        *("client id",),
        *("client id", "date"),
        *("address", "client id", "date"),
    ]


def test_a_pipe_gets_all() -> None:
    line = line_of(EVENT, parts_within(None))
    assert all(str(value) in line for value in EVENT.values())

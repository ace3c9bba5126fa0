"""Go durations."""

from __future__ import annotations

from datetime import timedelta

import pytest

from foregate.core.durations import parse_duration, parse_token_duration
from foregate.core.errors import ErrorCode, ForegateError


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("0", timedelta(0)),
        ("0s", timedelta(0)),
        ("8760h", timedelta(days=365)),
        ("2h45m", timedelta(hours=2, minutes=45)),
        ("1h1h", timedelta(hours=2)),
        ("1.5h", timedelta(minutes=90)),
        (".5s", timedelta(milliseconds=500)),
        ("1.s", timedelta(seconds=1)),
        ("1ms", timedelta(milliseconds=1)),
        ("1500ns", timedelta(microseconds=1)),
        ("3us", timedelta(microseconds=3)),
        ("3µs", timedelta(microseconds=3)),
        ("3μs", timedelta(microseconds=3)),
        ("2562047h", timedelta(hours=2562047)),
    ],
)
def test_duration_is_read_as_go_reads_it(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize(
    "text",
    ["", " ", "1", "h", "-1h", "+1h", "1 h", "1d", "1y", "1H", ".h", ".", "1..5h", "1h ", "1h1", "١h", "forever",
     "2562048h", "9" * 80 + "h", "1h\n"],
)  # fmt: skip
def test_other_text_is_no_duration(text: str) -> None:
    with pytest.raises(ForegateError) as caught:
        parse_duration(text, pointer="/duration")

    assert (caught.value.code, caught.value.pointer) == (ErrorCode.INVALID_INPUT, "/duration")


def test_token_lasts_for_a_time_or_forever() -> None:
    assert parse_token_duration("24h") == timedelta(hours=24)
    assert parse_token_duration("forever") is None


@pytest.mark.parametrize("text", ["0", "0s", "1ns", "", "Forever"])
def test_token_cannot_last_no_time(text: str) -> None:
    with pytest.raises(ForegateError):
        parse_token_duration(text)

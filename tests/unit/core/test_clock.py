"""Times: RFC 3339 in, microseconds inside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from foregate.core.clock import format_time, from_micros, parse_time, to_micros, to_unix, utc_now
from foregate.core.errors import ErrorCode, ForegateError

MOMENT = datetime(2026, 9, 25, 22, 26, 26, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-09-25T22:26:26Z", MOMENT),
        ("2026-09-25t22:26:26z", MOMENT),
        ("2026-09-25T22:26:26+00:00", MOMENT),
        ("2026-09-26T00:26:26+02:00", MOMENT),
        ("2026-09-25T22:26:26", MOMENT),
        ("2026-09-25 22:26:26", MOMENT),
        (" 2026-09-25T22:26:26Z ", MOMENT),
        ("2026-09-25T22:26:26.5Z", MOMENT + timedelta(milliseconds=500)),
        ("2026-09-25T22:26:26.123456789Z", MOMENT + timedelta(microseconds=123456)),
        ("2026-09-25T22:26:26.123456789-01:00", MOMENT + timedelta(hours=1, microseconds=123456)),
    ],
)
def test_rfc_3339_is_read_to_aware_utc(text: str, moment: datetime) -> None:
    parsed = parse_time(text)

    assert parsed == moment
    assert parsed.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-09-25", "2026-09-25T22:26", "2026-13-25T22:26:26Z", "2026-02-30T00:00:00Z", "1758839186",
     "2026-09-25T22:26:26.Z", "2026-W39-5T22:26:26Z", "2026-09-25T22:26:26+02", "2026-09-25T22:26:61Z",
     "٢026-09-25T22:26:26Z",
     "2026-09-25T22:26:26.x", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-01:00"],
)  # fmt: skip
def test_other_text_is_no_time(text: str) -> None:
    with pytest.raises(ForegateError) as caught:
        parse_time(text, pointer="/since")

    assert (caught.value.code, caught.value.pointer) == (ErrorCode.INVALID_INPUT, "/since")


def test_time_is_written_in_utc_with_seconds() -> None:
    assert format_time(MOMENT.astimezone(timezone(timedelta(hours=5)))) == "2026-09-25T22:26:26Z"


@pytest.mark.parametrize("offset", [0, 1, 999_999, -1, -(10**15)])
def test_microseconds_are_exact_both_ways(offset: int) -> None:
    moment = MOMENT + timedelta(microseconds=offset)

    assert from_micros(to_micros(moment)) == moment


def test_unix_seconds_are_rounded_down() -> None:
    assert to_unix(MOMENT + timedelta(microseconds=999_999)) == to_unix(MOMENT) == 1790375186
    assert to_unix(datetime(1969, 12, 31, 23, 59, 59, 500000, tzinfo=UTC)) == -1


def test_now_is_aware_and_utc() -> None:
    assert utc_now().tzinfo is UTC

"""Time, always aware and UTC. Rules never call this: they take `now` as an argument."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from foregate.core.errors import invalid

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The system's time, aware, UTC."""
    return datetime.now(UTC)


def parse_time(text: str, *, pointer: str | None = None) -> datetime:
    """RFC 3339 to aware UTC. Fractions of up to 9 digits are cut to microseconds; a naive time is read as UTC.

    Raises ForegateError(INVALID_INPUT) for anything else, dates alone included.
    """
    form = _RFC_3339.fullmatch(text.strip())
    if form is None:
        raise invalid("Give the time as RFC 3339, such as 2026-09-25T22:26:26Z.", pointer=pointer)
    try:
        moment = datetime.fromisoformat(f"{form[1]}{(form[2] or '')[:7]}{(form[3] or '').upper()}")
    except ValueError:
        raise invalid("Give the time as RFC 3339, such as 2026-09-25T22:26:26Z.", pointer=pointer) from None
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise invalid("The time is out of range.", pointer=pointer) from None


def format_time(moment: datetime) -> str:
    """Aware time to RFC 3339 in UTC with seconds, such as 2026-09-25T22:26:26Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_micros(moment: datetime) -> int:
    """Aware time to whole microseconds since 1970 (what the databases hold)."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The inverse of `to_micros`."""
    return _EPOCH + timedelta(microseconds=micros)


def to_unix(moment: datetime) -> int:
    """Aware time to whole Unix seconds, rounded down."""
    return (moment - _EPOCH) // timedelta(seconds=1)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# `fromisoformat` alone would also take week dates, minutes without seconds, and refuse a lower-case z.
_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)

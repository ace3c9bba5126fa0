"""Time, always aware and UTC. Rules never call this: they take `now` as an argument."""

from __future__ import annotations

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
    body = text.strip()
    if len(body) < 19 or body[10] not in "Tt ":
        raise invalid("Give the time as RFC 3339, such as 2026-09-25T22:26:26Z.", pointer=pointer)
    head, _, tail = body.partition(".")
    if tail:
        digits = len(tail) - len(tail.lstrip("0123456789"))
        body = f"{head}.{tail[:digits][:6]}{tail[digits:]}" if digits else body
    try:
        moment = datetime.fromisoformat(body)
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

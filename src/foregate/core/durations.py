"""Go durations as Cloudflare's API takes them (`8760h`, `2h45m`), and `forever`. Kept verbatim, parsed to act on."""

from __future__ import annotations

import re
from datetime import timedelta

from foregate.core.errors import invalid

FOREVER = "forever"

_UNIT_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5
    "μs": 1_000,  # U+03BC
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
# Go keeps durations in a signed 64-bit count of nanoseconds (pkg.go.dev/time#Duration).
_MAX_NANOSECONDS = 2**63 - 1


def parse_duration(text: str, *, pointer: str | None = None) -> timedelta:
    """A Go duration, not negative, to a timedelta (cut to microseconds). `0` and `0s` are zero.

    Raises ForegateError(INVALID_INPUT) on any other text. Source: Go time.ParseDuration.
    """
    if text == "0":
        return timedelta(0)
    if len(text) > 64:
        raise _bad(pointer)
    position, nanoseconds = 0, 0
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            raise _bad(pointer)
        whole, _, fraction = part[1].partition(".")
        unit = _UNIT_NANOSECONDS[part[2]]
        nanoseconds += int(whole or "0") * unit
        if fraction:
            nanoseconds += int(fraction) * unit // 10 ** len(fraction)
        position = part.end()
    if not text or nanoseconds > _MAX_NANOSECONDS:
        raise _bad(pointer)
    return timedelta(microseconds=nanoseconds // 1_000)


def parse_token_duration(text: str, *, pointer: str | None = None) -> timedelta | None:
    """A service token's duration: a positive Go duration, or `forever`, which is None."""
    if text == FOREVER:
        return None
    length = parse_duration(text, pointer=pointer)
    if length <= timedelta(0):
        raise invalid("The duration must be longer than zero, such as 8760h, or forever.", pointer=pointer)
    return length


def _bad(pointer: str | None) -> Exception:
    return invalid("Give the duration as Go writes it, such as 8760h, 30m or 2h45m.", pointer=pointer)

"""Reading events out of the log: which batches are opened, which lines are parsed. Only what may match is.

Events stand in the order in which they were taken in, which is nearly that of time. A `Place` names an event for ever,
so it serves as a cursor. A search ends at its time limit, says so, and can be continued.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import monotonic

from sqlalchemy import Connection, text

from foregate.access.events.batch import UnreadableBatch, each_line, read_batch
from foregate.access.events.blocks import bits_of, may_hold
from foregate.access.events.events import Event, MalformedLine, is_notice, parse_line
from foregate.core.decision import Reason
from foregate.core.errors import invalid
from foregate.eventlog.model import LOGIN_EVENTS, LogRecord
from foregate.eventlog.sql import SqlLog

# Beyond this a search gives what it has, so that a thread of the API is not taken for long.
SEARCH_SECONDS = 2.0
# Records that no block covers yet are opened so many at a time.
_UNINDEXED_STEP = 32
_NO_BOUND = 2**62
_CURSOR = re.compile(r"([0-9]{1,18})\.([0-9]{1,12})")

_BLOCKS = text(
    "SELECT first_offset, last_offset, filter FROM event_blocks WHERE last_offset >= :low AND first_offset <= :high "
    "AND last_at >= :since AND first_at <= :until AND (reasons & :reasons) <> 0 ORDER BY first_offset"
)
_BLOCKS_BACK = text(_BLOCKS.text + " DESC")
_INDEXED = text("SELECT max(last_offset) FROM event_blocks")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an event stands: its batch's offset in the log, and its line's first byte in there."""

    offset: int
    first_byte: int

    def __str__(self) -> str:
        return f"{self.offset}.{self.first_byte}"


START = Place(0, 0)


def parse_place(cursor: str, *, pointer: str) -> Place:
    """A cursor from an earlier answer. Raises ForegateError(INVALID_INPUT)."""
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise invalid("Give the cursor of an earlier answer.", pointer=pointer)
    return Place(int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events: those of the account (and with `has_unowned` of none), and of everything else that is given.

    `since` (inclusive) and `until` (exclusive) are microseconds; `has_client` asks for a client id, any one.
    """

    account_id: str
    has_unowned: bool = False
    client_id: str = ""
    app_id: str = ""
    ray_id: str = ""
    reasons: frozenset[Reason] = frozenset(Reason)
    since: int = 0
    until: int = _NO_BOUND
    has_client: bool = False
    without_app_id: str = ""
    without_ray_id: str = ""

    def matches(self, event: Event) -> bool:
        """Whether the event is one of them."""
        return (
            (event.account_id == self.account_id or (self.has_unowned and not event.account_id))
            and self.client_id in ("", event.client_id)
            and self.app_id in ("", event.app_id)
            and self.ray_id in ("", event.ray_id)
            and event.reason in self.reasons
            and self.since <= event.at < self.until
            and (bool(event.client_id) or not self.has_client)
            and (not self.without_app_id or event.app_id != self.without_app_id)
            and (not self.without_ray_id or event.ray_id != self.without_ray_id)
        )

    def needles(self) -> list[bytes]:
        """Bytes that the line of every such event holds: looked for before a line is parsed."""
        pairs = {"id": self.client_id, "app": self.app_id, "ray": self.ray_id}
        found = [f'"{name}":"{value}"'.encode() for name, value in pairs.items() if value]
        return found if self.has_unowned else [*found, f'"acct":"{self.account_id}"'.encode()]

    def may_be_in(self, filter_: bytes) -> bool:
        """Whether a block with this filter may hold such an event."""
        owner = "" if self.has_unowned else self.account_id
        return all(may_hold(filter_, identifier) for identifier in (self.client_id, self.app_id, owner) if identifier)


@dataclass(frozen=True, slots=True)
class Found:
    """Events with their places, in the order searched. `reached`: the place to go on from. `is_cut`: the search ended
    for lack of time, so that there may be more even though the limit is not reached."""

    events: list[tuple[Place, Event]]
    reached: Place
    is_cut: bool


def search_back(connection: Connection, wanted: Wanted, before: Place | None, limit: int) -> Found:
    """The newest matching events before a place (None: before the end), the newest first."""
    bounds = SqlLog(connection).bounds(LOGIN_EVENTS)
    top = Place(bounds.end + 1, 0) if before is None else before
    spans = _spans_back(connection, wanted, bounds.start + 1, min(top.offset, bounds.end))
    found = Found([], top, False)
    deadline = monotonic() + SEARCH_SECONDS
    for record in (record for span in spans for record in reversed(_read(connection, *span))):
        for place, line in reversed(_lines(record, wanted)):
            if place < top and _take(found.events, place, line, wanted) and len(found.events) == limit:
                return replace(found, reached=place)
        found = replace(found, reached=Place(record.offset, 0))
        if monotonic() > deadline:
            return replace(found, is_cut=True)
    return replace(found, reached=Place(0, 0))


def search_on(connection: Connection, wanted: Wanted, after: Place, limit: int) -> Found:
    """The first matching events after a place, in order."""
    bounds = SqlLog(connection).bounds(LOGIN_EVENTS)
    spans = _spans_on(connection, wanted, max(after.offset, bounds.start + 1), bounds.end)
    found = Found([], after, False)
    deadline = monotonic() + SEARCH_SECONDS
    for record in (record for span in spans for record in _read(connection, *span)):
        for place, line in _lines(record, wanted):
            if place > after and _take(found.events, place, line, wanted) and len(found.events) == limit:
                return replace(found, reached=place)
        found = replace(found, reached=_end_of(record.offset))
        if monotonic() > deadline:
            return replace(found, is_cut=True)
    return replace(found, reached=max(after, _end_of(bounds.end)))


def _end_of(offset: int) -> Place:
    """After every line of that record."""
    return Place(offset, 10**12 - 1)


def _spans_back(connection: Connection, wanted: Wanted, low: int, high: int) -> Iterator[tuple[int, int]]:
    """Runs of offsets that may hold what is wanted, the last one first."""
    indexed = _indexed(connection)
    while high > indexed and high >= low:
        first = max(low, indexed + 1, high - _UNINDEXED_STEP + 1)
        yield first, high
        high = first - 1
    for first, last, filter_ in connection.execute(_BLOCKS_BACK, _block_range(wanted, low, high)):
        if wanted.may_be_in(filter_):
            yield max(first, low), min(last, high)


def _spans_on(connection: Connection, wanted: Wanted, low: int, high: int) -> Iterator[tuple[int, int]]:
    """The same, the first one first."""
    indexed = _indexed(connection)
    for first, last, filter_ in connection.execute(_BLOCKS, _block_range(wanted, low, high)):
        if wanted.may_be_in(filter_):
            yield max(first, low), min(last, high)
    for first in range(max(low, indexed + 1), high + 1, _UNINDEXED_STEP):
        yield first, min(first + _UNINDEXED_STEP - 1, high)


def _indexed(connection: Connection) -> int:
    """The last offset that a block covers."""
    return int(connection.execute(_INDEXED).scalar() or 0)


def _block_range(wanted: Wanted, low: int, high: int) -> dict[str, int]:
    times = {"since": wanted.since, "until": wanted.until}
    return {"low": low, "high": high, "reasons": bits_of(wanted.reasons), **times}


def _read(connection: Connection, first: int, last: int) -> list[LogRecord]:
    found = SqlLog(connection).read(LOGIN_EVENTS, first - 1, limit=max(1, last - first + 1), max_bytes=2**62)
    return [record for record in found if record.offset <= last]


def _lines(record: LogRecord, wanted: Wanted) -> list[tuple[Place, bytes]]:
    """The record's lines that may be wanted. A record that cannot be read has none: its consumers have counted it."""
    try:
        lines = read_batch(record).lines
    except UnreadableBatch:
        return []
    needles = wanted.needles()
    if not all(needle in lines for needle in needles):
        return []
    return [
        (Place(record.offset, first_byte), line)
        for first_byte, line in each_line(lines)
        if all(needle in line for needle in needles) and not is_notice(line)
    ]


def _take(events: list[tuple[Place, Event]], place: Place, line: bytes, wanted: Wanted) -> bool:
    try:
        event = parse_line(line)
    except MalformedLine:
        return False
    if wanted.matches(event):
        events.append((place, event))
        return True
    return False

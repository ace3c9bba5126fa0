"""Reading events out of the log: which batches are opened, which lines are parsed. Only what may match is.

Events stand in the order in which they were taken in, which is nearly that of time. A `Place` names an event for ever,
so it serves as a cursor. A search ends at its time limit, says so, and can be continued.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
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
# Later than every event.
FOREVER = 2**62
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
"""Before every event."""


def parse_place(cursor: str, *, pointer: str) -> Place:
    """A cursor from an earlier answer. Raises ForegateError(INVALID_INPUT)."""
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise invalid("Give the cursor of an earlier answer.", pointer=pointer)
    return Place(int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events: those of the account (and with `has_unowned` of none) that are all of what is given.

    An empty set or text asks for nothing. `since` (inclusive) and `until` (exclusive) are microseconds; `has_client`
    asks for a client id, any one; `without_...` for another value than this.
    """

    account_id: str
    has_unowned: bool = False
    client_ids: frozenset[str] = frozenset()
    app_ids: frozenset[str] = frozenset()
    ray_id: str = ""
    reasons: frozenset[Reason] = frozenset(Reason)
    since: int = 0
    until: int = FOREVER
    has_client: bool = False
    without_app_id: str = ""
    without_ray_id: str = ""

    def matches(self, event: Event) -> bool:
        """Whether the event is one of them."""
        return (
            (event.account_id == self.account_id or (self.has_unowned and not event.account_id))
            and (not self.client_ids or event.client_id in self.client_ids)
            and (not self.app_ids or event.app_id in self.app_ids)
            and self.ray_id in ("", event.ray_id)
            and event.reason in self.reasons
            and self.since <= event.at < self.until
            and (bool(event.client_id) or not self.has_client)
            and (not self.without_app_id or event.app_id != self.without_app_id)
            and (not self.without_ray_id or event.ray_id != self.without_ray_id)
        )

    def needles(self) -> list[bytes]:
        """Bytes that the line of every such event holds: looked for before a line is parsed."""
        found = [] if self.has_unowned else [f'"acct":"{self.account_id}"'.encode()]
        for name, values in (("id", self.client_ids), ("app", self.app_ids), ("ray", {self.ray_id} - {""})):
            if len(values) == 1:
                found.append(f'"{name}":"{next(iter(values))}"'.encode())
        return found

    def may_be_in(self, filter_: bytes) -> bool:
        """Whether a block with this filter may hold such an event."""
        owners = frozenset() if self.has_unowned else frozenset({self.account_id})
        return all(
            not values or any(may_hold(filter_, value) for value in values)
            for values in (self.client_ids, self.app_ids, owners)
        )


@dataclass(frozen=True, slots=True)
class Found:
    """Events with their places, in the order searched. `reached`: the place to go on from. `is_cut`: the search ended
    for lack of time, so that there may be more even though the limit is not reached. `began`: where the search began,
    so what comes later lies after it."""

    events: list[tuple[Place, Event]]
    reached: Place
    is_cut: bool
    began: Place = START


def search_back(connection: Connection, wanted: Wanted, before: Place | None, limit: int, skip: int = 0) -> Found:
    """The newest matching events before a place (None: before the end) but for the first `skip`, the newest first."""
    bounds = SqlLog(connection).bounds(LOGIN_EVENTS)
    top = end_of(bounds.end) if before is None else before
    # A place before a record's first line lies after the record before it.
    high = top.offset if top.first_byte else top.offset - 1
    spans = _spans_back(connection, wanted, bounds.start + 1, min(high, bounds.end))
    picker = _Picker(wanted, limit, skip)
    deadline = monotonic() + SEARCH_SECONDS
    for record in (record for span in spans for record in reversed(_read(connection, *span))):
        for place, line in reversed(_lines(record, wanted)):
            if place < top and picker.is_full_with(place, line):
                return Found(picker.events, place, False, top)
        if monotonic() > deadline:
            return Found(picker.events, Place(record.offset, 0), True, top)
    return Found(picker.events, START, False, top)


def search_on(connection: Connection, wanted: Wanted, after: Place, limit: int, skip: int = 0) -> Found:
    """The first matching events after a place but for the first `skip`, in order."""
    bounds = SqlLog(connection).bounds(LOGIN_EVENTS)
    low = after.offset + (after == end_of(after.offset))
    spans = _spans_on(connection, wanted, max(low, bounds.start + 1), bounds.end)
    picker = _Picker(wanted, limit, skip)
    deadline = monotonic() + SEARCH_SECONDS
    for record in (record for span in spans for record in _read(connection, *span)):
        for place, line in _lines(record, wanted):
            if place > after and picker.is_full_with(place, line):
                return Found(picker.events, place, False, after)
        if monotonic() > deadline:
            return Found(picker.events, end_of(record.offset), True, after)
    return Found(picker.events, max(after, end_of(bounds.end)), False, after)


class _Picker:
    """Takes matching events, after the first `skip`, up to `limit`."""

    def __init__(self, wanted: Wanted, limit: int, skip: int) -> None:
        self.events: list[tuple[Place, Event]] = []
        self._wanted = wanted
        self._limit = limit
        self._skip = skip

    def is_full_with(self, place: Place, line: bytes) -> bool:
        """Take the line if it matches; whether the limit is reached now."""
        try:
            event = parse_line(line)
        except MalformedLine:
            return False
        if not self._wanted.matches(event):
            return False
        if self._skip:
            self._skip -= 1
            return False
        self.events.append((place, event))
        return len(self.events) == self._limit


def end_of(offset: int) -> Place:
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

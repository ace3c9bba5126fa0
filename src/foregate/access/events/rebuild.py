"""Makes anew, from the log, what the consumers made of events, while the worker goes on.

The log is gone through from its start up to where the consumer is, beside everything else; then, in one transaction in
which the worker waits, what it has taken meanwhile is added and the new view takes the place of the old one. So there
is no moment with half a view, and no event counts twice. Called by `foregate rebuild`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from foregate.access.events.consumers import Blocks, Index, LastSeen, Rollups, store_index
from foregate.access.events.summary import Count, Summaries
from foregate.database.engine import Database
from foregate.eventlog.consumer import Consumer
from foregate.eventlog.model import LOGIN_EVENTS
from foregate.eventlog.runner import READ_BYTES, READ_RECORDS, offset_of
from foregate.eventlog.sql import SqlLog

# What is left for the transaction in which the worker waits, unless the worker is faster than this.
_LAST_RECORDS = 50
_FORGET_COUNTS = text("DELETE FROM rollups WHERE minute >= :minute")
_FORGET_BLOCKS = text("DELETE FROM event_blocks")
_FORGET_MALFORMED = text("DELETE FROM malformed_lines")
_MINUTE = 60_000_000


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """`batches` of events were read; `unreadable` of them could not be. `since`: when the first was taken in,
    microseconds, if older ones are gone from the log; None if the log is whole."""

    view: str
    batches: int
    unreadable: int
    since: int | None


def rebuild_last_seen(database: Database) -> Rebuilt:
    """Add to "last seen" what the log says. Nothing is taken back: the log is shorter than the memory of the tokens.

    `database` is open with the rights LAST_SEEN_WRITER. Safe to repeat.
    """
    consumer = LastSeen(Summaries())

    def replace(connection: Connection, uses: Any, _: int | None) -> None:
        consumer.store(connection, consumer.finish(uses))

    return _make_anew(database, consumer, replace)


def rebuild_counts(database: Database) -> Rebuilt:
    """Count the events of each minute anew, but for minutes of which the log may have lost some.

    `database` is open with the rights REBUILD. Safe to repeat.
    """
    consumer = Rollups(Summaries())

    def replace(connection: Connection, counts: dict[Count, int], since: int | None) -> None:
        # What was decided before the first batch was taken in may have been in one that is gone.
        first = 0 if since is None else since // _MINUTE + 1
        connection.execute(_FORGET_COUNTS, {"minute": first})
        whole = {count: events for count, events in counts.items() if count.minute >= first}
        consumer.store(connection, consumer.finish(whole))

    return _make_anew(database, consumer, replace)


def rebuild_index(database: Database) -> Rebuilt:
    """Make the index over the events anew, by which they are found. What arrived of each worker stays as counted.

    `database` is open with the rights REBUILD. Safe to repeat.
    """

    def replace(connection: Connection, index: Index, _: int | None) -> None:
        connection.execute(_FORGET_BLOCKS)
        connection.execute(_FORGET_MALFORMED)
        store_index(connection, index.blocks, index.malformed)

    return _make_anew(database, Blocks(Summaries()), replace)


def _make_anew(
    database: Database, consumer: Consumer, replace: Callable[[Connection, Any, int | None], None]
) -> Rebuilt:
    """`replace(connection, gathered, since)` puts what was gathered in the place of what is there."""
    with database.read() as connection:
        start = SqlLog(connection).bounds(LOGIN_EVENTS).start
    going = _Going(consumer, start)
    while going.left(database) > _LAST_RECORDS:
        with database.read() as connection:
            going.step(connection)
    with database.write() as connection:
        while going.step(connection):
            pass
        since = going.first_at if start else None
        if going.batches or not start:  # else the log holds nothing any more that could be better
            replace(connection, going.gathered, since)
    return Rebuilt(consumer.name, going.batches, going.unreadable, since)


class _Going:
    """A way through the log, up to where the consumer itself is."""

    def __init__(self, consumer: Consumer, start: int) -> None:
        self._consumer = consumer
        self._position = start
        self.gathered = consumer.begin()
        self.batches = 0
        self.unreadable = 0
        self.first_at: int | None = None

    def left(self, database: Database) -> int:
        """How many records are still to be read."""
        with database.read() as connection:
            return offset_of(connection, self._consumer) - self._position

    def step(self, connection: Connection) -> bool:
        """Take some records. False where there are none."""
        left = offset_of(connection, self._consumer) - self._position
        if left <= 0:
            return False
        limit = min(left, READ_RECORDS)
        page = SqlLog(connection).read(LOGIN_EVENTS, self._position, limit=limit, max_bytes=READ_BYTES)
        records = [record for record in page if record.offset <= self._position + left]
        if not records:  # trimmed meanwhile
            self._position += left
            return False
        self.first_at = records[0].at if self.first_at is None else self.first_at
        for record in records:
            self.batches += 1
            try:
                self._consumer.add(self.gathered, record)
            except Exception:  # set aside by the consumer itself, and pointed at there
                self.unreadable += 1
        self._position = records[-1].offset
        return True

"""The log in SQL tables: `log_topics` holds each topic's extent, `log_records` the records.

A `SqlLog` is a cheap view on one connection, made for one transaction: an append commits with whatever else the caller
writes there. Compaction happens in `put` itself, so no sweeper is needed and the newest record of a key stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

from foregate.database.engine import Database, Watch
from foregate.eventlog.model import RECORD_OVERHEAD_BYTES, Bounds, Entry, LogRecord, check_growing

_ADVANCE = text(
    "INSERT INTO log_topics (topic, last_offset, trimmed_offset, size_bytes) VALUES (:topic, 1, 0, :size) "
    "ON CONFLICT (topic) DO UPDATE SET last_offset = log_topics.last_offset + 1, "
    "size_bytes = log_topics.size_bytes + excluded.size_bytes RETURNING last_offset"
)
_REACH = text(
    "INSERT INTO log_topics (topic, last_offset, trimmed_offset, size_bytes) VALUES (:topic, :last, 0, 0) "
    "ON CONFLICT (topic) DO UPDATE SET last_offset = excluded.last_offset"
)
_INSERT = text(
    'INSERT INTO log_records (topic, "offset", key, value, is_tombstone, at) '
    "VALUES (:topic, :offset, :key, :value, :is_tombstone, :at)"
)
_SUPERSEDE = text("DELETE FROM log_records WHERE topic = :topic AND key = :key")
_READ = text(
    'SELECT "offset", key, value, at, is_tombstone FROM log_records '
    'WHERE topic = :topic AND "offset" > :after ORDER BY "offset" LIMIT :limit'
)
_BOUNDS = text("SELECT trimmed_offset, last_offset, size_bytes FROM log_topics WHERE topic = :topic")
_OLDEST = text(
    'SELECT "offset", length(value), at FROM log_records WHERE topic = :topic ORDER BY "offset" LIMIT :limit'
)
_DROP = text('DELETE FROM log_records WHERE topic = :topic AND "offset" <= :upto')
_SHRINK = text(
    "UPDATE log_topics SET trimmed_offset = :upto, size_bytes = size_bytes - :size "
    "WHERE topic = :topic AND trimmed_offset < :upto"
)
_OLD_TOMBSTONES = text(
    'SELECT "offset" FROM log_records WHERE topic = :topic AND is_tombstone = 1 AND at < :before '
    'ORDER BY "offset" LIMIT :limit'
)
_DROP_ONE = text('DELETE FROM log_records WHERE topic = :topic AND "offset" = :offset')


class SqlLog:
    """An `EventLog` within one transaction of `connection`. Appending needs a write transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append(self, topic: str, key: str, value: bytes, at: int) -> int:
        """See `EventLog.append`."""
        size = len(value) + RECORD_OVERHEAD_BYTES
        offset = int(self._connection.execute(_ADVANCE, {"topic": topic, "size": size}).scalar_one())
        row = {"topic": topic, "offset": offset, "key": key, "value": value, "is_tombstone": 0, "at": at}
        self._connection.execute(_INSERT, row)
        return offset

    def put(self, topic: str, entries: Sequence[Entry], at: int) -> int:
        """See `EventLog.put`."""
        check_growing(entries)
        end = self.bounds(topic).end
        fresh = [entry for entry in entries if entry.offset > end]
        if not fresh:
            return 0
        newest = {entry.key: entry for entry in fresh}
        self._connection.execute(_REACH, {"topic": topic, "last": fresh[-1].offset})
        self._connection.execute(_SUPERSEDE, [{"topic": topic, "key": key} for key in newest])
        rows = [
            {
                "topic": topic,
                "offset": entry.offset,
                "key": entry.key,
                "value": entry.value,
                "is_tombstone": int(entry.is_tombstone),
                "at": at,
            }
            for entry in newest.values()
        ]
        self._connection.execute(_INSERT, rows)
        return len(fresh)

    def read(self, topic: str, after: int, *, limit: int = 1000, max_bytes: int = 8 << 20) -> list[LogRecord]:
        """See `EventLog.read`."""
        result: list[LogRecord] = []
        size = 0
        rows = self._connection.execute(_READ, {"topic": topic, "after": after, "limit": limit})
        for offset, key, value, at, is_tombstone in rows:
            result.append(LogRecord(topic, offset, key, value, at, bool(is_tombstone)))
            size += len(value)
            if size >= max_bytes:
                break
        rows.close()
        return result

    def bounds(self, topic: str) -> Bounds:
        """See `EventLog.bounds`."""
        row = self._connection.execute(_BOUNDS, {"topic": topic}).first()
        return Bounds() if row is None else Bounds(*row)

    def trim(self, topic: str, *, max_bytes: int, before: int, limit: int = 500) -> int:
        """See `EventLog.trim`."""
        size = self.bounds(topic).size_bytes
        upto = freed = dropped = 0
        for offset, length, at in self._connection.execute(_OLDEST, {"topic": topic, "limit": limit}):
            if size - freed <= max_bytes and at >= before:
                break
            upto, freed, dropped = offset, freed + length + RECORD_OVERHEAD_BYTES, dropped + 1
        if dropped:
            self._connection.execute(_DROP, {"topic": topic, "upto": upto})
            self._connection.execute(_SHRINK, {"topic": topic, "upto": upto, "size": freed})
        return dropped

    def drop_tombstones(self, topic: str, *, before: int, limit: int = 500) -> int:
        """See `EventLog.drop_tombstones`."""
        found = self._connection.execute(_OLD_TOMBSTONES, {"topic": topic, "before": before, "limit": limit})
        offsets = [row[0] for row in found]
        if offsets:
            self._connection.execute(_DROP_ONE, [{"topic": topic, "offset": offset} for offset in offsets])
            self._connection.execute(_SHRINK, {"topic": topic, "upto": offsets[-1], "size": 0})
        return len(offsets)


class SqlSource:
    """The log in a database as a consumer's `Source`."""

    name = "log"

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watch: Watch | None = None

    def read(self, topic: str, after: int, *, limit: int, max_bytes: int) -> list[LogRecord]:
        """See `Source.read`. One transaction."""
        with self._database.read() as connection:
            return SqlLog(connection).read(topic, after, limit=limit, max_bytes=max_bytes)

    def has_changed(self) -> bool:
        """See `Source.has_changed`."""
        if self._watch is None:
            self._watch = self._database.watch()
        return self._watch.has_changed()

    def close(self) -> None:
        """See `Source.close`. The database itself stays open."""
        if self._watch is not None:
            self._watch.close()

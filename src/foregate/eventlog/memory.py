"""The log in memory, for tests and for trying things out: what it holds ends with the process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from foregate.eventlog.model import RECORD_OVERHEAD_BYTES, Bounds, Entry, LogRecord, check_growing


@dataclass(slots=True)
class _Topic:
    start: int = 0
    end: int = 0
    size_bytes: int = 0
    records: dict[int, LogRecord] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)


class MemoryLog:
    """An `EventLog` without transactions: every call takes effect at once."""

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}

    def append(self, topic: str, key: str, value: bytes, at: int) -> int:
        """See `EventLog.append`."""
        found = self._topic(topic)
        found.end += 1
        found.records[found.end] = LogRecord(topic, found.end, key, value, at)
        found.size_bytes += len(value) + RECORD_OVERHEAD_BYTES
        return found.end

    def put(self, topic: str, entries: Sequence[Entry], at: int) -> int:
        """See `EventLog.put`."""
        check_growing(entries)
        found = self._topic(topic)
        fresh = [entry for entry in entries if entry.offset > found.end]
        for entry in fresh:
            found.records.pop(found.newest.get(entry.key, 0), None)
            found.records[entry.offset] = LogRecord(topic, entry.offset, entry.key, entry.value, at, entry.is_tombstone)
            found.newest[entry.key] = found.end = entry.offset
        return len(fresh)

    def read(self, topic: str, after: int, *, limit: int = 1000, max_bytes: int = 8 << 20) -> list[LogRecord]:
        """See `EventLog.read`."""
        result: list[LogRecord] = []
        size = 0
        for offset, record in self._topic(topic).records.items():
            if offset > after:
                result.append(record)
                size += len(record.value)
                if len(result) >= limit or size >= max_bytes:
                    break
        return result

    def bounds(self, topic: str) -> Bounds:
        """See `EventLog.bounds`."""
        found = self._topic(topic)
        return Bounds(found.start, found.end, found.size_bytes)

    def trim(self, topic: str, *, max_bytes: int, before: int, limit: int = 500) -> int:
        """See `EventLog.trim`."""
        found = self._topic(topic)
        dropped = 0
        for offset, record in list(found.records.items())[:limit]:
            if found.size_bytes <= max_bytes and record.at >= before:
                break
            del found.records[offset]
            found.size_bytes -= len(record.value) + RECORD_OVERHEAD_BYTES
            found.start = offset
            dropped += 1
        return dropped

    def drop_tombstones(self, topic: str, *, before: int, limit: int = 500) -> int:
        """See `EventLog.drop_tombstones`."""
        found = self._topic(topic)
        old = [o for o, record in found.records.items() if record.is_tombstone and record.at < before][:limit]
        for offset in old:
            del found.newest[found.records.pop(offset).key]
            found.start = max(found.start, offset)
        return len(old)

    def _topic(self, name: str) -> _Topic:
        return self._topics.setdefault(name, _Topic())

"""The log: topics of records in order, read from an offset on. The driver may be SQL, memory or Kafka.

A topic's offsets grow and are never used twice. A *kept* topic (`append`) holds every record until it is trimmed; its
offsets have no holes, so what a reader missed is countable. A *compacted* topic (`put`) holds the newest record of
each key under the offset its one writer gives, so reading it from 0 to its end is a snapshot of all keys.
The log knows nothing of what a value says; whoever reads stores how far it came beside its own result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

LOGIN_EVENTS = "login-events"
EDGE_CONFIG = "edge-config"
EDGE_REPORTS = "edge-reports"

# What a record costs beside its value: rows, keys and indexes. Keeps a flood of tiny records within a bound in bytes.
RECORD_OVERHEAD_BYTES = 160


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record. `at`: when it was appended, microseconds since 1970. `is_tombstone`: its key is gone."""

    topic: str
    offset: int
    key: str
    value: bytes
    at: int
    is_tombstone: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A record to put into a compacted topic. `offset` is the writer's own number for it, 1 or more."""

    key: str
    offset: int
    value: bytes
    is_tombstone: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """A topic's extent. Reading after an offset of `start` or more misses nothing; `end` is the highest offset ever
    given, 0 in an unused topic. `size_bytes` counts values and overhead of a kept topic; 0 for a compacted one."""

    start: int = 0
    end: int = 0
    size_bytes: int = 0


class EventLog(Protocol):
    """Calls take part in the caller's transaction where the driver has one: what is appended is read by others once
    that commits. Not safe to share between threads."""

    def append(self, topic: str, key: str, value: bytes, at: int) -> int:
        """Add a record to a kept topic; its offset, one more than the last."""
        ...

    def put(self, topic: str, entries: Sequence[Entry], at: int) -> int:
        """Add records to a compacted topic, each replacing the older record of its key. How many were new.

        An entry whose offset is not above the topic's end is left out: it is there already. So a writer that does not
        know whether its last call took effect repeats it. ValueError unless the offsets grow.
        """
        ...

    def read(self, topic: str, after: int, *, limit: int = 1000, max_bytes: int = 8 << 20) -> list[LogRecord]:
        """Records with an offset above `after`, in order: at most `limit`, and no more once they hold `max_bytes`
        (always at least one, if there is one). Records older than `bounds().start` may be gone."""
        ...

    def bounds(self, topic: str) -> Bounds:
        """The topic's extent."""
        ...

    def trim(self, topic: str, *, max_bytes: int, before: int, limit: int = 500) -> int:
        """Drop at most `limit` records from the start of a kept topic: while it is over `max_bytes`, and those older
        than `before`. How many went; fewer than `limit` means that it is within bounds."""
        ...

    def drop_tombstones(self, topic: str, *, before: int, limit: int = 500) -> int:
        """Drop tombstones older than `before` from a compacted topic. A reader who stands below the highest one
        dropped must take a snapshot (`bounds().start` moves there). How many went."""
        ...


class LogAccess(Protocol):
    """Runs work for asyncio code on what a log is opened with: a transaction's connection, or the log itself."""

    async def read(self, work: Callable[[Any], T]) -> T:
        """`work(opened)`, which only reads."""
        ...

    async def write(self, work: Callable[[Any], T]) -> T:
        """`work(opened)`; what it wrote is kept when this returns."""
        ...


def check_growing(entries: Sequence[Entry]) -> None:
    """ValueError unless the entries' offsets start at 1 or more and grow."""
    last = 0
    for entry in entries:
        if entry.offset <= last:
            raise ValueError(f"offset {entry.offset} of {entry.key} does not follow {last}")
        last = entry.offset

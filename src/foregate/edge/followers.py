"""Fans the `edge-config` topic out to the edges that follow the feed, on the control plane's side.

The newest records stand in a bounded tail in memory, so a change costs no database read per follower. A follower that
is behind the tail reads the log until it has caught up; one that starts from nothing, or from before what the log still
holds, gets a snapshot. One event loop; the log is read through an injected `AsyncDatabase`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from sqlalchemy import Connection

from foregate.core.clock import Clock, utc_now
from foregate.database.engine import AsyncDatabase
from foregate.edge.feed_lines import HEARTBEAT_SECONDS, Heartbeat, SnapshotBegin, SnapshotEnd, encode_line
from foregate.eventlog.model import EDGE_CONFIG, Bounds, EventLog, LogRecord

# 8 MB of typical records: a follower may stall for the length of a burst without falling back to the log.
_TAIL_RECORDS = 16_384
_PAGE_RECORDS = 2_000


class Followers:
    """The tail and those who wait on it. Call `start` before anything else and `close` before the server drains."""

    def __init__(
        self,
        telemetry: AsyncDatabase,
        log: Callable[[Connection], EventLog],
        *,
        clock: Clock = utc_now,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        tail_records: int = _TAIL_RECORDS,
    ) -> None:
        self._telemetry = telemetry
        self._log = log
        self._clock = clock
        self._heartbeat_seconds = heartbeat_seconds
        self._tail: deque[tuple[int, bytes]] = deque(maxlen=tail_records)
        self._tail_after = 0  # the tail holds every record above this seq
        self._last = 0
        self._changed = asyncio.Event()
        self._is_closed = False

    async def start(self) -> None:
        """Learn where the log ends."""
        self._last = self._tail_after = (await self._bounds()).end

    def publish(self, lines: list[tuple[int, bytes]]) -> None:
        """Records that the log has just taken: (seq, JSON without newline), seqs growing. Call on the event loop."""
        for seq, line in lines:
            if seq <= self._last:
                continue
            if len(self._tail) == self._tail.maxlen:
                self._tail_after = self._tail[0][0]
            self._tail.append((seq, line + b"\n"))
            self._last = seq
        self._wake()

    def close(self) -> None:
        """End every stream, so that the server can stop."""
        self._is_closed = True
        self._wake()

    async def follow(self, after: int) -> AsyncIterator[bytes]:
        """The feed after seq `after`, as bytes of whole lines; goes on until `close` or until nobody reads."""
        yield encode_line(Heartbeat(min(after, self._last), self._clock().timestamp()))
        start = (await self._bounds()).start
        position = after
        if after == 0 or after < start:
            async for reached, chunk in self._snapshot():
                position = reached
                yield chunk
        while not self._is_closed:
            changed = self._changed
            if position < self._tail_after:
                page = await self._page(position)
                position = page[-1].offset if page else self._tail_after
                if page:
                    yield _join(page)
            elif fresh := self._newer(position):
                position = fresh[-1][0]
                yield b"".join(line for _, line in fresh)
            elif not await _within(changed, self._heartbeat_seconds):
                yield encode_line(Heartbeat(self._last, self._clock().timestamp()))

    async def _snapshot(self) -> AsyncIterator[tuple[int, bytes]]:
        """(position, chunk). Reads to the end of the log, not to where it ended at first: a key that moves there
        meanwhile must not be missed."""
        end = (await self._bounds()).end
        position, records = 0, 0
        yield 0, encode_line(SnapshotBegin(end))
        while page := await self._page(position):
            position = page[-1].offset
            records += len(page)
            yield position, _join(page)
        position = max(position, end)
        yield position, encode_line(SnapshotEnd(end, records))

    def _newer(self, position: int) -> list[tuple[int, bytes]]:
        """The tail's records above `position`, oldest first, without walking the whole tail."""
        found: list[tuple[int, bytes]] = []
        for item in reversed(self._tail):
            if item[0] <= position:
                break
            found.append(item)
        found.reverse()
        return found

    async def _page(self, after: int) -> list[LogRecord]:
        return await self._telemetry.read(lambda c: self._log(c).read(EDGE_CONFIG, after, limit=_PAGE_RECORDS))

    async def _bounds(self) -> Bounds:
        return await self._telemetry.read(lambda c: self._log(c).bounds(EDGE_CONFIG))

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _join(page: list[LogRecord]) -> bytes:
    return b"".join(record.value + b"\n" for record in page)


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True

"""Fans the `edge-config` topic out to the edges that follow the feed, on the control plane's side.

The newest records stand in a bounded tail in memory, so a change costs no database read per follower. A follower that
is behind the tail reads the log until it has caught up; one that starts from nothing, or from before what the log still
holds, gets a snapshot. Records about one edge (`edge/<id>`) go to that edge alone; it is told that others were passed
over. One event loop; the log is read through an injected `AsyncDatabase`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

import orjson
from sqlalchemy import Connection

from foregate.core.clock import Clock, utc_now
from foregate.database.engine import AsyncDatabase
from foregate.edge.feed_lines import HEARTBEAT_SECONDS, Heartbeat, Passed, SnapshotBegin, SnapshotEnd, encode_line
from foregate.edge.rollout import EDGE_KIND
from foregate.eventlog.model import EDGE_CONFIG, Bounds, EventLog, LogRecord

# 8 MB of typical records: a follower may stall for the length of a burst without falling back to the log.
_TAIL_RECORDS = 16_384
_PAGE_RECORDS = 2_000
_EDGE_RECORD = f"{EDGE_KIND}/"
# `Record.to_wire` begins with version and key.
_KEY_WITHIN_BYTES = 24

# seq, the edge that alone it concerns ('': all), the line with its newline
_TailLine = tuple[int, str, bytes]


@dataclass(frozen=True, slots=True)
class Reader:
    """Who follows: an edge, and the version of the feed that it knows."""

    edge_id: str
    version: int = 1

    def pick(self, lines: Iterable[_TailLine]) -> bytes:
        """What of these lines is for this edge, in order."""
        chosen: list[bytes] = []
        passed = 0
        for seq, owner, line in lines:
            is_own = self.version > 1 and owner == self.edge_id
            passed = seq if owner and not is_own else 0
            if not passed:
                chosen.append(line)
        if passed and self.version > 1:
            chosen.append(encode_line(Passed(passed)))
        return b"".join(chosen)

    def told_by(self, lines: list[_TailLine]) -> int:
        """Up to which seq an edge is, once it has read what was picked of these lines."""
        return max(seq for seq, owner, _ in lines if self.version > 1 or not owner)


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
        self._tail: deque[_TailLine] = deque(maxlen=tail_records)
        self._tail_after = 0  # the tail holds every record above this seq
        self._last = 0
        self._changed = asyncio.Event()
        self._is_closed = False
        self._expelled: set[str] = set()
        self._catching_up: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Learn where the log ends."""
        self._last = self._tail_after = (await self._bounds()).end

    def publish(self, lines: list[tuple[int, bytes]], after: int = 0) -> None:
        """Records that the log has just taken: (seq, JSON without newline), seqs growing. `after`: the highest seq that
        it had before, 0 where nobody else publishes. Call on the event loop."""
        if after > self._last:
            # Another process published before this one: what is between is read from the log, and these with it.
            self._catching_up = asyncio.create_task(self.catch_up())
            return
        for seq, line in lines:
            if seq <= self._last:
                continue
            if len(self._tail) == self._tail.maxlen:
                self._tail_after = self._tail[0][0]
            owner, is_expelled = _concerns(line)
            self._tail.append((seq, owner, line + b"\n"))
            self._last = seq
            if is_expelled:
                self._expelled.add(owner)
        self._wake()

    def expel(self, edge_id: str) -> None:
        """End the streams of this edge. Its record, once published, has the same effect in every process."""
        self._expelled.add(edge_id)
        self._wake()

    async def catch_up(self) -> None:
        """Take in what other processes have published: the log is read once, for all who follow."""
        while page := await self._page(self._last):
            self.publish([(record.offset, record.value) for record in page], self._last)

    def close(self) -> None:
        """End every stream, so that the server can stop."""
        self._is_closed = True
        self._wake()

    async def follow(self, after: int, reader: Reader) -> AsyncIterator[bytes]:
        """The feed after seq `after`, as bytes of whole lines; goes on until `close`, until nobody reads, or until the
        edge is expelled."""
        yield encode_line(Heartbeat(min(after, self._last), self._clock().timestamp()))
        start = (await self._bounds()).start
        position = told = after
        if after == 0 or after < start:
            async for reached, chunk in self._snapshot():
                position = told = reached
                yield chunk
        while not self._is_closed and reader.edge_id not in self._expelled:
            changed = self._changed
            if position < self._tail_after:
                lines = [_tail_line(record) for record in await self._page(position)]
                position = lines[-1][0] if lines else self._tail_after
            elif lines := self._newer(position):
                position = lines[-1][0]
            elif not await _within(changed, self._heartbeat_seconds):
                # What it was told of, not what there is: more than that is a gap to whoever reads it.
                yield encode_line(Heartbeat(min(told, self._last), self._clock().timestamp()))
            if chunk := reader.pick(lines):
                told = reader.told_by(lines)
                yield chunk

    async def _snapshot(self) -> AsyncIterator[tuple[int, bytes]]:
        """(position, chunk). Reads to the end of the log, not to where it ended at first: a key that moves there
        meanwhile must not be missed."""
        end = (await self._bounds()).end
        position, records = 0, 0
        yield 0, encode_line(SnapshotBegin(end))
        while page := await self._page(position):
            position = page[-1].offset
            lines = [record.value + b"\n" for record in page if not record.key.startswith(_EDGE_RECORD)]
            records += len(lines)
            yield position, b"".join(lines)
        position = max(position, end)
        yield position, encode_line(SnapshotEnd(end, records))

    def _newer(self, position: int) -> list[_TailLine]:
        """The tail's records above `position`, oldest first, without walking the whole tail."""
        found: list[_TailLine] = []
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


def _tail_line(record: LogRecord) -> _TailLine:
    owner = record.key.removeprefix(_EDGE_RECORD) if record.key.startswith(_EDGE_RECORD) else ""
    return record.offset, owner, record.value + b"\n"


def _concerns(line: bytes) -> tuple[str, bool]:
    """The edge that the record in this line is about, '' for one that concerns all; and whether it is expelled by
    it."""
    if _EDGE_RECORD.encode() not in line[:_KEY_WITHIN_BYTES]:
        return "", False
    record = orjson.loads(line)
    value = record["value"] or {}
    return record["key"].removeprefix(_EDGE_RECORD), value.get("expelled") is True


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True

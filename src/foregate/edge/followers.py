"""Fans the `edge-config` topic out to the edges that follow the feed, on the control plane's side.

The newest records stand in a bounded tail in memory, so a change costs no database read per follower: what many are to
be told is put together once. A follower that is behind the tail reads the log until it has caught up; one that starts
from nothing, or from before what the log still holds, gets a snapshot (`edge/snapshots.py`). Records about one edge
(`edge/<id>`) go to that edge alone; it is told that others were passed over. One event loop and one timer for all.
"""

from __future__ import annotations

import asyncio
import itertools
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import structlog

from foregate.core.clock import Clock, utc_now
from foregate.core.errors import ForegateError
from foregate.core.records import RecordRefused, open_record
from foregate.edge.feed_lines import HEARTBEAT_SECONDS, Heartbeat, Passed, SnapshotBegin, SnapshotEnd, encode_line
from foregate.edge.rollout import EDGE_KIND
from foregate.edge.snapshots import Snapshots
from foregate.eventlog.model import EDGE_CONFIG, Bounds, EventLog, LogAccess, LogRecord

logger = structlog.get_logger(__name__)

# 8 MB of typical records: a follower may stall for the length of a burst without falling back to the log.
_TAIL_RECORDS = 16_384
_PAGE_RECORDS = 2_000
# What one follower is told at once: some hundred kilobytes, as each that is slow has as much on its way.
_MOST_LINES = 512
# Told of a change in one turn of the event loop; a turn of all 10,000 would keep whoever calls the API waiting.
_WOKEN_AT_ONCE = 128
# Heartbeats of all followers are spread over their interval in so many parts.
_SPOKES = 16
# Edges that connect again together share one look at the log's extent.
_BOUNDS_SECONDS = 0.5
_NEVER = 2**63
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


@dataclass(frozen=True, slots=True)
class _Piece:
    """What a follower is told next: `chunk` for it, after which it stands at `position` and knows of seq `told`."""

    chunk: bytes
    position: int
    told: int


class _Stream:
    """One follower that is connected."""

    __slots__ = ("is_beat_due", "reader", "woken")

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.woken = asyncio.Event()
        self.is_beat_due = False


class Followers:
    """The tail and those who wait on it. Call `start` before anything else and `close` before the server drains."""

    def __init__(
        self,
        telemetry: LogAccess,
        log: Callable[[Any], EventLog],
        *,
        mac_key: bytes,
        folder: Path | None = None,
        clock: Clock = utc_now,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        tail_records: int = _TAIL_RECORDS,
    ) -> None:
        """`mac_key`: what records are sealed under. `folder`: where snapshots lie."""
        self._telemetry = telemetry
        self._log = log
        self._snapshots = Snapshots(telemetry, log, folder)
        self._clock = clock
        self._mac_key = mac_key
        self._tail = _Tail(tail_records)
        self._streams: set[_Stream] = set()
        self._spokes: list[set[_Stream]] = [set() for _ in range(_SPOKES)]
        self._numbers = itertools.count()
        self._heartbeat_seconds = heartbeat_seconds
        self._tick_seconds = heartbeat_seconds / _SPOKES
        self._timer: asyncio.TimerHandle | None = None
        self._bounds = Bounds()
        self._bounds_until = 0.0
        self._looking = asyncio.Lock()
        self._is_closed = False
        # By edge, the seq of the record that expelled it: with that its stream ends, or at once where it is 0.
        self._expelled: dict[str, int] = {}
        self._catching_up: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Learn where the log ends."""
        self._tail.begin((await self._read_bounds()).end)

    def publish(self, lines: list[tuple[int, bytes]], after: int = 0) -> None:
        """Records that the log has just taken: (seq, JSON without newline), seqs growing; what is known already is
        passed over. `after`: the highest seq that it had before, 0 where nobody else publishes. Call on the event
        loop."""
        if after > self._tail.last:
            # Another process published before this one: what is between is read from the log, and these with it.
            self._catching_up = asyncio.create_task(self.catch_up())
            return
        for seq, line in lines:
            owner = _owner_of(line)
            self._tail.add((seq, owner, line + b"\n"))
            if owner and _expels(self._mac_key, line):
                self._expelled.setdefault(owner, seq)
        self._wake(list(self._streams))

    def expel(self, edge_id: str) -> None:
        """End the streams of this edge. Its record, once published, has the same effect in every process."""
        self._expelled[edge_id] = 0
        self._wake([stream for stream in self._streams if stream.reader.edge_id == edge_id])

    async def catch_up(self) -> None:
        """Take in what other processes have published: the log is read once, for all who follow."""
        while page := await self._page(self._tail.last):
            self.publish([(record.offset, record.value) for record in page])

    def close(self) -> None:
        """End every stream, so that the server can stop."""
        self._is_closed = True
        for stream in self._streams:
            stream.woken.set()

    async def follow(self, after: int, reader: Reader) -> AsyncGenerator[bytes]:
        """The feed after seq `after`, as bytes of whole lines; goes on until `close`, until nobody reads, until the
        edge is expelled, or until the log cannot be read: whoever follows comes again."""
        try:
            async for chunk in self._follow(after, reader):
                yield chunk
        except ForegateError as error:
            logger.warning("feed_cut", reason=error.message, detail=error.detail)

    async def _follow(self, after: int, reader: Reader) -> AsyncGenerator[bytes]:
        yield self._heartbeat(after)
        bounds = await self._recent_bounds()
        position = told = after
        if after == 0 or after < bounds.start:
            making = self._snapshots.newest(bounds)
            # A large one takes longer than an edge waits for a word.
            while not (await asyncio.wait({making}, timeout=self._heartbeat_seconds))[0]:
                yield self._heartbeat(after)
            snapshot = making.result()
            yield encode_line(SnapshotBegin(snapshot.seq))
            async for chunk in snapshot.chunks():
                yield chunk
            yield encode_line(SnapshotEnd(snapshot.seq, snapshot.records))
            position = told = snapshot.position
        stream, spoke = _Stream(reader), self._spokes[next(self._numbers) % _SPOKES]
        self._join(stream, spoke)
        try:
            while not self._is_closed and position < (until := self._expelled.get(reader.edge_id, _NEVER)):
                stream.woken.clear()
                piece = self._tail.after(position, reader, told, until)
                if piece is None and position < self._tail.begins_after:
                    piece = await self._from_log(position, reader, told)
                if piece is not None:
                    position, told = piece.position, piece.told
                    if piece.chunk:
                        yield piece.chunk
                elif stream.is_beat_due:
                    stream.is_beat_due = False
                    yield self._heartbeat(told)
                else:
                    await stream.woken.wait()
        finally:
            self._leave(stream, spoke)

    def _heartbeat(self, told: int) -> bytes:
        """What a follower was told of, not what there is: more than that is a gap to whoever reads it."""
        return encode_line(Heartbeat(min(told, self._tail.last), self._clock().timestamp()))

    async def _from_log(self, position: int, reader: Reader, told: int) -> _Piece:
        """For a follower that is behind the tail."""
        page = await self._page(position)
        if not page:
            return _Piece(b"", self._tail.begins_after, told)
        return _piece([_tail_line(record) for record in page], reader, told)

    async def _page(self, after: int) -> list[LogRecord]:
        return await self._telemetry.read(lambda c: self._log(c).read(EDGE_CONFIG, after, limit=_PAGE_RECORDS))

    async def _recent_bounds(self) -> Bounds:
        """The log's extent, from a moment ago at most."""
        loop = asyncio.get_running_loop()
        async with self._looking:
            if loop.time() >= self._bounds_until:
                self._bounds = await self._read_bounds()
                self._bounds_until = loop.time() + _BOUNDS_SECONDS
            return self._bounds

    async def _read_bounds(self) -> Bounds:
        return await self._telemetry.read(lambda c: self._log(c).bounds(EDGE_CONFIG))

    def _join(self, stream: _Stream, spoke: set[_Stream]) -> None:
        self._streams.add(stream)
        spoke.add(stream)
        if self._timer is None:
            self._beat(0)

    def _leave(self, stream: _Stream, spoke: set[_Stream]) -> None:
        self._streams.discard(stream)
        spoke.discard(stream)

    def _wake(self, streams: list[_Stream], start: int = 0) -> None:
        """Some now, the others in the next turns of the event loop."""
        for stream in streams[start : start + _WOKEN_AT_ONCE]:
            stream.woken.set()
        if len(streams) > start + _WOKEN_AT_ONCE:
            asyncio.get_running_loop().call_soon(self._wake, streams, start + _WOKEN_AT_ONCE)

    def _beat(self, spoke: int) -> None:
        """Heartbeats of one part of the followers; the timer of the next part, as long as there is anybody."""
        for stream in self._spokes[spoke]:
            stream.is_beat_due = True
        self._wake(list(self._spokes[spoke]))
        loop = asyncio.get_running_loop()
        is_needed = self._streams and not self._is_closed
        self._timer = loop.call_later(self._tick_seconds, self._beat, (spoke + 1) % _SPOKES) if is_needed else None


class _Tail:
    """The newest lines, and what is made of them for all who stand at the same place."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seqs: list[int] = []
        self._lines: list[_TailLine] = []
        self._shared: dict[tuple[int, bool], _Piece] = {}
        self.begins_after = 0  # it holds every record above this seq
        self.last = 0

    def begin(self, seq: int) -> None:
        """Nothing is held yet, and the log ends at `seq`."""
        self.begins_after = self.last = seq

    def add(self, line: _TailLine) -> None:
        """The next line. One that is not newer is passed over."""
        if line[0] <= self.last:
            return
        self._seqs.append(line[0])
        self._lines.append(line)
        self.last = line[0]
        self._shared.clear()
        if len(self._lines) >= 2 * self._most:  # now and then, as it moves all that stay
            self._drop(len(self._lines) - self._most)

    def after(self, position: int, reader: Reader, told: int, until: int) -> _Piece | None:
        """What comes behind `position` up to seq `until`; None where nothing does, or where that is not held any
        more."""
        if not self.begins_after <= position < self.last:
            return None
        place = (position, reader.version > 1)
        shared = self._shared.get(place)
        if shared is not None and shared.position <= until:
            return shared
        start = bisect_right(self._seqs, position)
        lines = self._lines[start : min(start + _MOST_LINES, bisect_right(self._seqs, until))]
        piece = _piece(lines, reader, told)
        if until == _NEVER and not any(owner for _, owner, _ in lines):
            self._shared[place] = piece
        return piece

    def _drop(self, count: int) -> None:
        self.begins_after = self._seqs[count - 1]
        del self._seqs[:count], self._lines[:count]


def _piece(lines: list[_TailLine], reader: Reader, told: int) -> _Piece:
    """What of these lines is for this reader, in order."""
    knows_passed = reader.version > 1
    chosen = [line for _, owner, line in lines if not owner or (knows_passed and owner == reader.edge_id)]
    position, owner, _ = lines[-1]
    if not knows_passed:
        told = max(_seqs_for_all(lines), default=told)
        return _Piece(b"".join(chosen), position, told)
    if owner and owner != reader.edge_id:
        chosen.append(encode_line(Passed(position)))
    return _Piece(b"".join(chosen), position, position)


def _seqs_for_all(lines: Iterable[_TailLine]) -> Iterable[int]:
    return (seq for seq, owner, _ in lines if not owner)


def _tail_line(record: LogRecord) -> _TailLine:
    owner = record.key.removeprefix(_EDGE_RECORD) if record.key.startswith(_EDGE_RECORD) else ""
    return record.offset, owner, record.value + b"\n"


def _owner_of(line: bytes) -> str:
    """The edge that alone the record in this line is about, '' for one that concerns all."""
    if _EDGE_RECORD.encode() not in line[:_KEY_WITHIN_BYTES]:
        return ""
    return str(orjson.loads(line)["key"]).removeprefix(_EDGE_RECORD)


def _expels(mac_key: bytes, line: bytes) -> bool:
    """Whether the control plane itself says so: whoever can write into the log is not to cut edges off."""
    try:
        record = open_record(mac_key, orjson.loads(line))
    except RecordRefused:
        return False
    return record.value is not None and record.value.get("expelled") is True

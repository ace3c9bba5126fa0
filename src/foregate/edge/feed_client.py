"""Follows the control plane's feed from the edge, for ever: reads lines, hands them on in order, reconnects.

Nothing a control plane or the network between may do ends it: refused connections, stalls, garbage, repeats, gaps and a
control plane that went back are each noted with a reason in `status` and met by going on or reconnecting. What a record
is worth is not judged here. What does end it is word that this edge is expelled. One event loop.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import httpx
import structlog

from foregate.edge.feed_lines import (
    FEED_VERSION,
    HEARTBEAT_SECONDS,
    MAX_LINE_BYTES,
    Garbage,
    Heartbeat,
    Line,
    Passed,
    RecordLine,
    SnapshotBegin,
    SnapshotEnd,
    parse_line,
)

log = structlog.get_logger(__name__)

# Three heartbeats: a stream that is silent for longer is dead, whatever TCP says.
STALL_SECONDS = 3 * HEARTBEAT_SECONDS
# Lines read ahead of the disk. They go into one transaction, so a burst costs one sync and not one for each; and of a
# snapshot, whose keys come in no order, each transaction writes a good part of the file's pages: so few are better.
_READ_AHEAD_LINES = 16_384
# The same fault at the same place so often is no accident of the network: go on without what is missing.
_STRIKES = 3
_FIRST_PAUSE_SECONDS = 0.1
# A control plane that comes back must have its edges back within 5 s.
_LONGEST_PAUSE_SECONDS = 2.0


class FeedHandler(Protocol):
    """Who gets the lines. Calls come one at a time and in the feed's order; an exception ends the client."""

    def cursor(self) -> int:
        """The seq after which the feed should go on."""
        ...

    async def prepare(self) -> None:
        """Before each connection. FeedBroken where something is missing for it, Expelled where it always will."""
        ...

    async def take(self, records: list[dict[str, object]]) -> None:
        """Records as sent, in order; repeats occur."""
        ...

    async def begin_snapshot(self) -> None:
        """What follows, up to `end_snapshot`, is everything there is. A snapshot may break off."""
        ...

    async def end_snapshot(self, end: SnapshotEnd) -> None:
        """The snapshot is whole."""
        ...

    async def passed(self, seq: int) -> None:
        """Whatever there was up to `seq` and did not come is of no concern to this edge."""
        ...

    async def caught_up(self, seq: int) -> None:
        """Everything up to `seq` has been sent."""
        ...


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """`state`: connecting, following, waiting. `reason`: what is or last was wrong, '' if nothing. Times are Unix."""

    state: str
    reason: str
    since: float
    last_line_at: float = 0
    control_plane_seq: int = 0
    clock_skew_seconds: float = 0
    connections: int = 0


class FeedBroken(Exception):
    """This connection is of no more use; the text says why."""


class Expelled(Exception):
    """The control plane has expelled this edge, for good. It must not serve any more."""


# The answer to an edge that has been expelled (`ErrorCode.GONE`).
EXPELLED_STATUS = 410


class FeedClient:
    """`run()` follows until cancelled. `prepare` is awaited before each connection and may raise FeedBroken."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        handler: FeedHandler,
        prepare: Callable[[], Awaitable[None]],
        *,
        stall_seconds: float = STALL_SECONDS,
        longest_pause_seconds: float = _LONGEST_PAUSE_SECONDS,
    ) -> None:
        """`http` has the control plane's base URL and the edge's Authorization header."""
        self._http = http
        self._handler = handler
        self._prepare = prepare
        self._stall_seconds = stall_seconds
        self._longest_pause_seconds = longest_pause_seconds
        self._strikes = (-1, 0)  # cursor, faults seen there
        self._seen = 0  # highest seq that a record of this connection claims
        self.status = FeedStatus("connecting", "", time.time())

    async def run(self) -> None:
        """Follow the feed for ever. Expelled ends it."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            started = time.monotonic()
            try:
                await self._follow()
            except FeedBroken as error:
                self._set("waiting", str(error))
            if time.monotonic() - started > self._stall_seconds / 3:
                pause = _FIRST_PAUSE_SECONDS
            # Jitter: edges cut off together must not come back together.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 2, self._longest_pause_seconds)

    async def _follow(self) -> None:
        self._set("connecting", self.status.reason)
        await self._prepare()
        self._seen = after = self._handler.cursor()
        lines: asyncio.Queue[Line | FeedBroken | Expelled] = asyncio.Queue(_READ_AHEAD_LINES)
        reader = asyncio.create_task(self._read(after, lines))
        try:
            while True:
                await self._deal([await lines.get(), *_rest(lines)])
        finally:
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader

    async def _read(self, after: int, lines: asyncio.Queue[Line | FeedBroken | Expelled]) -> None:
        """Puts each line into the queue, and at last why there are no more."""
        try:
            timeout = httpx.Timeout(5.0, read=self._stall_seconds)
            query = {"after": after, "version": FEED_VERSION}
            request = self._http.stream("GET", "/edge/v1/feed", params=query, timeout=timeout)
            async with request as response:
                if response.status_code == EXPELLED_STATUS:
                    raise Expelled
                if response.status_code != 200:
                    raise FeedBroken(f"the control plane answered {response.status_code}")
                self._set("following", "", connections=self.status.connections + 1)
                async for text in self._lines(response):
                    await lines.put(parse_line(text))
            raise FeedBroken("the control plane ended the stream")
        except (FeedBroken, Expelled) as error:
            await lines.put(error)
        except TimeoutError:
            await lines.put(FeedBroken(f"stalled: nothing came for {self._stall_seconds:g} s"))
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            await lines.put(FeedBroken(unreachable(error)))

    async def _lines(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Whole lines. A stream without a whole line for too long is stalled, however many bytes trickle in."""
        chunks = response.aiter_bytes()
        rest = b""
        deadline = asyncio.get_running_loop().time() + self._stall_seconds
        while True:
            async with asyncio.timeout_at(deadline):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            *whole, rest = (rest + chunk).split(b"\n") if rest else chunk.split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                raise FeedBroken("garbage: a line without end")
            for line in whole:
                yield line
            if whole:
                deadline = asyncio.get_running_loop().time() + self._stall_seconds

    async def _deal(self, lines: list[Line | FeedBroken | Expelled]) -> None:
        """Hand on what was read, records between two other lines in one batch."""
        self.status = replace(self.status, last_line_at=time.time())
        batch: list[dict[str, object]] = []
        for line in lines:
            if isinstance(line, RecordLine):
                batch.append(line.wire)
                continue
            await self._take(batch)
            batch = []
            match line:
                case FeedBroken() | Expelled():
                    raise line
                case Passed(seq):
                    self._seen = max(self._seen, seq)
                    await self._handler.passed(seq)
                case Garbage(reason):
                    self._strike(f"garbage: {reason}")
                case SnapshotBegin():
                    await self._handler.begin_snapshot()
                case SnapshotEnd():
                    await self._handler.end_snapshot(line)
                case Heartbeat():
                    await self._beat(line)
        await self._take(batch)

    async def _take(self, batch: list[dict[str, object]]) -> None:
        if not batch:
            return
        claimed = (record.get("seq") for record in batch)
        self._seen = max(self._seen, *(seq for seq in claimed if isinstance(seq, int)), 0)
        await self._handler.take(batch)

    async def _beat(self, beat: Heartbeat) -> None:
        cursor = self._handler.cursor()
        skew = time.time() - beat.at if beat.at else 0.0
        self.status = replace(self.status, control_plane_seq=beat.seq, clock_skew_seconds=round(skew, 3))
        if beat.seq > max(cursor, self._seen):
            self._strike(f"gap: the control plane is at {beat.seq}, {self._seen} was the last record that came")
        elif beat.seq < cursor:
            self._set("following", f"went back: the control plane is at {beat.seq}, this edge at {cursor}")
        await self._handler.caught_up(beat.seq)

    def _strike(self, reason: str) -> None:
        """A fault that a new connection may mend; FeedBroken, until it has not mended it often enough."""
        cursor = self._handler.cursor()
        count = self._strikes[1] + 1 if self._strikes[0] == cursor else 1
        self._strikes = (cursor, count)
        if count <= _STRIKES:
            raise FeedBroken(reason)
        self._set("following", reason)

    def _set(self, state: str, reason: str, **more: Any) -> None:
        if reason and reason != self.status.reason:
            log.warning("feed_waiting" if state == "waiting" else "feed_odd", reason=reason)
        self.status = replace(self.status, state=state, reason=reason, since=time.time(), **more)


def unreachable(error: Exception) -> str:
    """What a failed exchange with the control plane is to people."""
    return f"the control plane cannot be reached ({f'{type(error).__name__}: {error}'.rstrip(': ')})"


def _rest(lines: asyncio.Queue[Line | FeedBroken | Expelled]) -> list[Line | FeedBroken | Expelled]:
    """What else is in the queue already."""
    return [lines.get_nowait() for _ in range(lines.qsize())]

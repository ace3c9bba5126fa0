"""The API process's hand for what edges send: batches of events and reports, into telemetry.db.

Built by `services/api.py` and given to the edge feed (`edge.feed.FeedParts`). Whoever follows events waits on
`arrivals`; nothing polls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import orjson

from foregate.access.events.batch import SpoolBatch, parse_batch, to_message
from foregate.access.events.ingest import Receipt, position_of, take_in
from foregate.access.events.reports import take_report
from foregate.core.clock import Clock
from foregate.database.engine import AsyncDatabase
from foregate.edge.event_message import partition_key
from foregate.edge.feed import EventBatch
from foregate.eventlog.model import EDGE_REPORTS, LOGIN_EVENTS
from foregate.eventlog.sql import SqlLog


class Arrivals:
    """Wakes those who wait for the next batch. For one event loop."""

    def __init__(self) -> None:
        self._next = asyncio.Event()
        self.is_over = False

    def announce(self) -> None:
        """A batch has come: wake all who wait."""
        self._next.set()
        self._next = asyncio.Event()

    def end(self) -> None:
        """The server is about to drain: wake all who wait, and let nobody wait again."""
        self.is_over = True
        self.announce()

    def coming(self) -> asyncio.Event:
        """Set when the next batch has come. Take it before looking at what is there, so that none is missed."""
        return self._next


class Intake(Protocol):
    """Takes in what edges send over the feed."""

    arrivals: Arrivals

    async def ingest(self, sent: EventBatch) -> int:
        """Keep a batch: the byte from which its worker's next one should start. Safe to repeat.

        Raises ForegateError: INVALID_INPUT or TOO_LARGE for what is no batch, UNAVAILABLE where it cannot be kept.
        """
        ...

    async def take_report(self, edge_id: str, report: dict[str, Any]) -> None:
        """Keep an edge's report."""
        ...

    async def look(self) -> None:
        """Announce what other processes have taken in. Call it when the telemetry store has changed."""
        ...

    def close(self) -> None:
        """End the threads."""
        ...


class EventIntake:
    """An `Intake` into the log in `telemetry`, which is open with the rights INGEST."""

    def __init__(self, telemetry: AsyncDatabase, clock: Clock) -> None:
        self._telemetry = telemetry
        self._clock = clock
        # One thread: unpacking a batch takes a few milliseconds, which the event loop must not spend.
        self._unpacker = ThreadPoolExecutor(1, thread_name_prefix="events")
        self.arrivals = Arrivals()
        self._log_end = 0

    async def ingest(self, sent: EventBatch) -> int:
        """See `Intake.ingest`."""
        loop = asyncio.get_running_loop()
        parts = (sent.edge_id, sent.worker, sent.offset, sent.is_final, sent.body)
        batch = await loop.run_in_executor(self._unpacker, parse_batch, *parts)
        receipt: Receipt = await self._telemetry.write(lambda connection: take_in(connection, batch, self._clock()))
        if receipt.taken:
            self.arrivals.announce()
        return receipt.next_byte

    async def look(self) -> None:
        """See `Intake.look`."""
        end = (await self._telemetry.read(lambda connection: SqlLog(connection).bounds(LOGIN_EVENTS))).end
        if end > self._log_end:
            self._log_end = end
            self.arrivals.announce()

    async def take_report(self, edge_id: str, report: dict[str, Any]) -> None:
        """See `Intake.take_report`."""
        await self._telemetry.write(lambda connection: take_report(connection, edge_id, report, self._clock()))

    def close(self) -> None:
        """See `Intake.close`."""
        self._unpacker.shutdown()


class LogIntake(EventIntake):
    """An `Intake` that hands on to a log of many partitions; the worker takes it in from there.

    `telemetry`, open with the rights INGEST, says how far that has come. `append(topic, key, value)` returns once the
    log keeps the record.
    """

    def __init__(
        self, telemetry: AsyncDatabase, clock: Clock, append: Callable[[str, str, bytes], Awaitable[None]]
    ) -> None:
        super().__init__(telemetry, clock)
        self._append = append

    async def ingest(self, sent: EventBatch) -> int:
        """See `Intake.ingest`. What the log keeps need not be sent again, whenever it is taken in."""

        def parse() -> tuple[SpoolBatch, str]:
            batch = parse_batch(sent.edge_id, sent.worker, sent.offset, sent.is_final, sent.body)
            return batch, partition_key(batch.lines, batch.worker)

        batch, key = await asyncio.get_running_loop().run_in_executor(self._unpacker, parse)
        if batch.size_bytes or batch.is_final:
            await self._append(LOGIN_EVENTS, key, to_message(batch))
        taken_in = await self._telemetry.read(lambda connection: position_of(connection, batch.edge_id, batch.worker))
        return max(taken_in, batch.end if batch.size_bytes else 0)

    async def take_report(self, edge_id: str, report: dict[str, Any]) -> None:
        """See `Intake.take_report`."""
        await self._append(EDGE_REPORTS, edge_id, orjson.dumps(report))

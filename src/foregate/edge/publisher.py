"""Carries committed changes from the outbox to the log topic `edge-config`, on the control plane's side.

For each key with new outbox rows it compiles the key's state as it is now, seals it under the row's seq and puts it
into the log, whose offsets are those seqs; then it marks the rows. At least once: after a crash between the two the
rows come again under new seqs, and log and edges drop what is not newer. A key whose state cannot be compiled (damaged
row, bug) is left out and retried; it never stops the others. Of several API processes, the one that holds the seat
publishes. One event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
import structlog
from sqlalchemy import Connection, bindparam, func, insert, select, update

from foregate.core.clock import Clock, to_micros, utc_now
from foregate.core.errors import ForegateError
from foregate.core.records import Record, RecordRefused, seal
from foregate.database.elections import TRIED_EVERY_SECONDS, Seat, Unseated
from foregate.database.engine import AsyncDatabase
from foregate.database.journal import enqueue
from foregate.database.records_schema import outbox
from foregate.edge.rollout import check_form
from foregate.eventlog.model import EDGE_CONFIG, Entry, EventLog, LogAccess

T = TypeVar("T")
CompileRecord = Callable[[Connection, str], dict[str, Any] | None]

# One read, one log transaction and one mark serve so many changes; more would make the first wait for the last.
_BATCH_ROWS = 512
# After so many records at once there are more on their way: what comes within the pause shares a read, a commit and a
# push to the edges, which then have more time for it.
_BUSY_ROWS = 8
_BUSY_PAUSE_SECONDS = 0.02
# Wake-ups are not lost within the process; this finds what a killed process left behind, and what failed.
_RETRY_SECONDS = 5.0
# Keys that are taken back in one transaction, beside which the API goes on.
_PAGE = 500
# What compiling a damaged row may raise: wide, so that one such row does not stop every other change.
_UNCOMPILABLE = (ForegateError, RecordRefused, ValueError, LookupError, TypeError, AttributeError)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows read at one moment: the last one's seq (0: no rows), sealed records by growing seq, and what failed."""

    last_seq: int
    records: list[Record]
    failed: dict[str, str]


class Publisher:
    """`wake()` after each commit that wrote outbox rows; `run()` publishes until cancelled."""

    def __init__(
        self,
        records: AsyncDatabase,
        telemetry: AsyncDatabase,
        *,
        log_access: LogAccess | None = None,
        event_log: Callable[[Any], EventLog],
        compile_record: CompileRecord,
        mac_key: bytes,
        notify: Callable[[list[tuple[int, bytes]], int], None],
        seat: Seat,
        clock: Clock = utc_now,
    ) -> None:
        """`compile_record(connection, key)` gives a key's value now, None where it is gone. `notify` gets
        (seq, wire JSON) of each record once the log has it, and the highest seq that it had before. The `seat`'s lease
        is in the telemetry store, where the log is, unless `log_access` opens another one."""
        self._records = records
        self._telemetry = telemetry
        self._log: LogAccess = log_access or telemetry
        self._event_log = event_log
        self._compile_record = compile_record
        self._mac_key = mac_key
        self._notify = notify
        self._seat = seat
        self._clock = clock
        self._woken = asyncio.Event()
        self._published_to = 0
        self._log_end = 0
        self._marking: asyncio.Task[None] | None = None
        # Keys that could not be published, and why: shown to the operator, and retried.
        self.failed: dict[str, str] = {}

    def wake(self) -> None:
        """There may be new rows. Call on the event loop; safe to call at any time."""
        self._woken.set()

    @property
    def is_seated(self) -> bool:
        """Whether this process publishes."""
        return self._seat.is_held

    async def run(self) -> None:
        """Publish for ever, while this process holds the seat. A database that is away for a while is waited for."""
        try:
            while True:
                await self._until_available(self.take_seat)
                with contextlib.suppress(Unseated):
                    await self._publish()
                self._seat.resign()
        finally:
            self._seat.resign()

    async def take_seat(self) -> None:
        """Wait until this process is the one that publishes."""
        while not self._seat.is_held:
            if await asyncio.to_thread(self._seat.try_lock) and await self._telemetry.write(self._seat.stand):
                return
            await asyncio.sleep(TRIED_EVERY_SECONDS)

    async def keep_seat(self) -> None:
        """Answer another process that asks whether this one is there. Call it when the telemetry store has changed."""
        if self._seat.is_held and await self._telemetry.read(self._seat.look):
            await self._telemetry.write(self._seat.answer)

    async def _publish(self) -> None:
        await self._until_available(self.recover)
        while self._seat.is_held:
            self._woken.clear()
            while published := await self._until_available(self.publish_once):
                if published >= _BUSY_ROWS:
                    await asyncio.sleep(_BUSY_PAUSE_SECONDS)
            try:
                async with asyncio.timeout(_RETRY_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                await self._until_available(self.retry_late)

    async def recover(self) -> None:
        """Bring outbox and log together after a crash, or after one of them came back older or empty."""
        bounds = await self._log.read(lambda c: self._event_log(c).bounds(EDGE_CONFIG))
        newest = await self._records.read(_newest_seq)
        if newest < bounds.end:
            await self._take_back(newest)
        await self._records.write(lambda c: self._align(c, bounds.end))
        self._published_to = self._log_end = bounds.end
        await self.retry_late()

    async def publish_once(self) -> int:
        """Publish the next batch of the outbox. How many keys it had, published or not; 0 where there was none."""
        batch = await self._records.read(self._read_batch)
        self._report_failures(batch.failed)
        if not batch.last_seq:
            return 0
        if batch.records:
            lines = [(record.seq, orjson.dumps(record.to_wire())) for record in batch.records]
            entries = [
                Entry(record.key, record.seq, line, record.value is None)
                for record, (_, line) in zip(batch.records, lines, strict=True)
            ]
            at = to_micros(self._clock())
            await self._put(entries, at)
            self._notify(lines, self._log_end)
            self._log_end = lines[-1][0]
            await self._start_marking(batch.records, at)
        self._published_to = batch.last_seq
        return len(batch.records) + len(batch.failed)

    async def retry_late(self) -> None:
        """Give new seqs to rows that the log has passed by: they failed to compile, or a process died over them."""
        await self._catch_up_log()
        queued = await self._records.write(self._requeue_late)
        if queued:
            self._woken.set()

    async def _put(self, entries: list[Entry], at: int) -> None:
        def put(connection: Connection) -> None:
            self._seat.require(connection)
            self._event_log(connection).put(EDGE_CONFIG, entries, at)

        if self._log is self._telemetry:
            await self._telemetry.write(put)
            return
        # A log elsewhere knows nothing of the seat. One who has lost it since is shut out there, as the younger writer.
        await self._telemetry.read(self._seat.require)
        await self._log.write(lambda opened: self._event_log(opened).put(EDGE_CONFIG, entries, at))

    async def _catch_up_log(self) -> None:
        """Send again what the log lacks: it was emptied, cut off or made anew behind our back."""
        await self._marked()
        bounds = await self._log.read(lambda c: self._event_log(c).bounds(EDGE_CONFIG))
        if bounds.end >= self._published_to:
            return
        log.error("log_went_back", log_end=bounds.end, published_to=self._published_to)
        await self._records.write(lambda c: self._align(c, bounds.end))
        self._published_to = self._log_end = bounds.end
        self._woken.set()

    def _read_batch(self, connection: Connection) -> _Batch:
        """Rows and state of one snapshot, so that a record's state is never older than its seq."""
        columns = select(outbox.c.seq, outbox.c.record_key).where(outbox.c.seq > self._published_to)
        rows = connection.execute(columns.order_by(outbox.c.seq).limit(_BATCH_ROWS)).all()
        newest = {key: seq for seq, key in rows}
        records: list[Record] = []
        failed: dict[str, str] = {}
        for key, seq in newest.items():
            try:
                records.append(self._seal(connection, key, seq))
            except _UNCOMPILABLE as error:
                failed[key] = error.message if isinstance(error, ForegateError) else f"{type(error).__name__}: {error}"
        return _Batch(rows[-1][0] if rows else 0, sorted(records, key=lambda record: record.seq), failed)

    def _seal(self, connection: Connection, key: str, seq: int) -> Record:
        record = seal(self._mac_key, key, seq, self._compile_record(connection, key))
        check_form(record)  # what an edge would refuse is not sent in the first place
        return record

    def _report_failures(self, failed: dict[str, str]) -> None:
        for key, reason in failed.items():
            log.error("record_not_published", key=key, reason=reason)
            self.failed[key] = reason

    async def _start_marking(self, records: list[Record], at: int) -> None:
        """Mark beside the next batch: the position in memory, not the mark, keeps a row from being sent twice."""
        for record in records:
            self.failed.pop(record.key, None)
        await self._marked()
        self._marking = asyncio.create_task(self._records.write(lambda c: _mark(c, records, at)))

    async def _marked(self) -> None:
        marking, self._marking = self._marking, None
        if marking is not None:
            await marking

    def _requeue_late(self, connection: Connection) -> int:
        late = select(outbox.c.record_key).where(outbox.c.published_at.is_(None), outbox.c.seq <= self._published_to)
        keys = [key for (key,) in connection.execute(late.distinct())]
        now = self._clock()
        queued = 0
        for key in keys:
            try:
                self._seal(connection, key, 1)
            except _UNCOMPILABLE:
                continue
            enqueue(connection, key, now)
            _mark(connection, [Record(key, self._published_to, None, "")], to_micros(now))
            queued += 1
        return queued

    async def _take_back(self, newest: int) -> None:
        """The records came back older than the log: what they do not remember must not stay in force at the edges.

        All keys that changed since are to be sent again as the records have them now: a token that they do not know
        any more as a tombstone. Rows of before the log's end are found late by `retry_late`, and get new seqs there.
        """
        log.error("records_older_than_log", records_end=newest)
        after, count = newest, 0
        while page := await self._log.read(lambda c: self._event_log(c).read(EDGE_CONFIG, after, limit=_PAGE)):  # noqa: B023
            keys = [entry.key for entry in page]
            await self._records.write(lambda c: [enqueue(c, key, self._clock()) for key in keys])  # noqa: B023
            after, count = page[-1].offset, count + len(keys)
        log.warning("records_taken_back", count=count)

    def _align(self, connection: Connection, log_end: int) -> None:
        newest = select(func.max(outbox.c.seq)).group_by(outbox.c.record_key)
        lost = update(outbox).where(
            outbox.c.seq > log_end, outbox.c.published_at.is_not(None), outbox.c.seq.in_(newest)
        )
        again = connection.execute(lost.values(published_at=None)).rowcount
        if again:
            log.warning("records_published_again", count=again, log_end=log_end)
        if _newest_seq(connection) < log_end:
            # Go on above every seq that edges have seen.
            at = to_micros(self._clock())
            filler = {"seq": log_end, "record_key": "account/none", "enqueued_at": at, "published_at": at}
            connection.execute(insert(outbox), filler)

    async def _until_available(self, step: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await step()
            except ForegateError as error:
                log.error("publisher_waits", reason=error.message, detail=error.detail)
                await asyncio.sleep(1.0)
            with contextlib.suppress(ForegateError):  # the step will say so again
                await self._catch_up_log()


def _newest_seq(connection: Connection) -> int:
    return int(connection.execute(select(func.max(outbox.c.seq))).scalar() or 0)


_MARK = (
    update(outbox)
    .where(outbox.c.published_at.is_(None), outbox.c.record_key == bindparam("key"), outbox.c.seq <= bindparam("upto"))
    .values(published_at=bindparam("at"))
)


def _mark(connection: Connection, records: list[Record], at: int) -> None:
    connection.execute(_MARK, [{"key": record.key, "upto": record.seq, "at": at} for record in records])

"""What becomes of events: the latest use of each token, counts per minute, and an index of what each run of the log
holds. Each consumer has a connection of its own that can write its own result and nothing else; none of them can read
or write a token. Run by `eventlog/runner.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text

from foregate.access.events.blocks import Block, block_of
from foregate.access.events.summary import Count, Stamp, Summaries, Summary, to_micros, to_stamp
from foregate.core.ids import CLIENT_ID
from foregate.database.elections import Seat
from foregate.database.engine import Database
from foregate.database.prepared import Prepared
from foregate.database.stores import Store
from foregate.database.telemetry_schema import BLOCK_WRITER, LAST_SEEN_WRITER, ROLLUP_WRITER
from foregate.eventlog.consumer import Consumer, Job
from foregate.eventlog.model import LOGIN_EVENTS, LogRecord
from foregate.eventlog.seating import PATIENCE_SECONDS

# Two edges may report the same moment; the greater id wins, so that the order of batches makes no difference.
_SEE = Prepared(
    text(
        "INSERT INTO last_seen (client_id, seen_at, edge_id) VALUES (:client_id, :seen_at, :edge_id) "
        "ON CONFLICT (client_id) DO UPDATE SET seen_at = excluded.seen_at, edge_id = excluded.edge_id "
        "WHERE (excluded.seen_at, excluded.edge_id) > (last_seen.seen_at, last_seen.edge_id)"
    ),
    ("client_id", "seen_at", "edge_id"),
)
_COUNT = text(
    "INSERT INTO rollups (minute, account_id, app_id, reason, events) "
    "VALUES (:minute, :account_id, :app_id, :reason, :events) "
    "ON CONFLICT (minute, account_id, app_id, reason) DO UPDATE SET events = rollups.events + excluded.events"
)
_TAIL = text(
    "SELECT first_offset, last_offset, first_at, last_at, events, raw_bytes, reasons, filter FROM event_blocks "
    "ORDER BY first_offset DESC LIMIT 1"
)
_BLOCK = text(
    "INSERT INTO event_blocks (first_offset, last_offset, first_at, last_at, events, raw_bytes, reasons, filter) "
    "VALUES (:first_offset, :last_offset, :first_at, :last_at, :events, :raw_bytes, :reasons, :filter) "
    "ON CONFLICT (first_offset) DO UPDATE SET last_offset = excluded.last_offset, first_at = excluded.first_at, "
    "last_at = excluded.last_at, events = excluded.events, raw_bytes = excluded.raw_bytes, "
    "reasons = excluded.reasons, filter = excluded.filter"
)
_NUMBERS = text(
    "INSERT INTO worker_numbers (edge_id, worker, highest, written, events, failures, notices, malformed, updated_at) "
    "VALUES (:edge_id, :worker, :highest, :written, :events, :failures, :notices, :malformed, :at) "
    "ON CONFLICT (edge_id, worker) DO UPDATE SET highest = CASE WHEN worker_numbers.highest > excluded.highest "
    "THEN worker_numbers.highest ELSE excluded.highest END, "
    "written = CASE WHEN worker_numbers.written > excluded.written "
    "THEN worker_numbers.written ELSE excluded.written END, "
    "events = worker_numbers.events + excluded.events, failures = worker_numbers.failures + excluded.failures, "
    "notices = worker_numbers.notices + excluded.notices, "
    "malformed = worker_numbers.malformed + excluded.malformed, updated_at = excluded.updated_at"
)
_MALFORMED = text(
    'INSERT INTO malformed_lines ("offset", first_byte, size_bytes, reason, at) '
    "VALUES (:offset, :first_byte, :size_bytes, :reason, :at)"
)
_CLIENT_ID = re.compile(CLIENT_ID.pattern.encode())
# Of a batch full of garbage, so many lines are pointed at; all are counted.
_POINTERS_PER_BATCH = 20


def event_jobs(telemetry: Store) -> list[Job]:
    """The consumers of topic `login-events` on the telemetry store, each with its own rights."""
    summaries = Summaries()
    return [
        _job(LastSeen(summaries), telemetry.open(LAST_SEEN_WRITER)),
        _job(Rollups(summaries), telemetry.open(ROLLUP_WRITER)),
        _job(Blocks(summaries), telemetry.open(BLOCK_WRITER)),
    ]


def _job(consumer: Consumer, database: Database) -> Job:
    return Job(consumer, database, Seat(f"consumer/{consumer.name}", database, patience_seconds=PATIENCE_SECONDS))


class LastSeen:
    """When each token was last let through, and at which edge. Only ever later; one narrow upsert for a round."""

    name = "last-seen"
    topic = LOGIN_EVENTS

    def __init__(self, summaries: Summaries) -> None:
        self._summaries = summaries

    def begin(self) -> dict[str, dict[bytes, Stamp]]:
        """Latest use by edge and client id."""
        return {}

    def add(self, gathered: dict[str, dict[bytes, Stamp]], record: LogRecord) -> None:
        """See `Consumer.add`. A use is never later than when its batch was taken in, whatever an edge's clock says."""
        summary = self._summaries.of(record)
        taken_in = to_stamp(summary.at)
        used_at = summary.used_at
        if summary.last > taken_in:
            used_at = [min(stamp, taken_in) for stamp in used_at]
        latest = gathered.setdefault(summary.edge_id, {})
        get = latest.get
        for client_id, stamp in zip(summary.uses, used_at, strict=True):
            if stamp > get(client_id, b""):
                latest[client_id] = stamp

    def finish(self, gathered: dict[str, dict[bytes, Stamp]]) -> list[tuple[str, int, str]]:
        """Rows in key order, so that neighbours in the table are written together."""
        # Many tokens are used in the same millisecond.
        micros = {stamp: to_micros(stamp) for latest in gathered.values() for stamp in set(latest.values())}
        return [
            (client_id.decode(), micros[latest[client_id]], edge_id)
            for edge_id, latest in gathered.items()
            for client_id in sorted(filter(_CLIENT_ID.fullmatch, latest))
        ]

    def store(self, connection: Connection, finished: list[tuple[str, int, str]]) -> None:
        """See `Consumer.store`."""
        if finished:
            # Past SQLAlchemy's parameter handling, which would cost more than the upserts themselves.
            _SEE.run_many(connection, finished)


class Rollups:
    """Events per minute, account, application and reason."""

    name = "rollups"
    topic = LOGIN_EVENTS

    def __init__(self, summaries: Summaries) -> None:
        self._summaries = summaries

    def begin(self) -> dict[Count, int]:
        """Counts so far."""
        return {}

    def add(self, gathered: dict[Count, int], record: LogRecord) -> None:
        """See `Consumer.add`."""
        for key, events in self._summaries.of(record).counts.items():
            gathered[key] = gathered.get(key, 0) + events

    def finish(self, gathered: dict[Count, int]) -> list[dict[str, Any]]:
        """Rows."""
        return [
            {
                "minute": key.minute,
                "account_id": key.account_id,
                "app_id": key.app_id,
                "reason": key.reason.value,
                "events": events,
            }
            for key, events in gathered.items()
        ]

    def store(self, connection: Connection, finished: list[dict[str, Any]]) -> None:
        """See `Consumer.store`."""
        if finished:
            connection.execute(_COUNT, finished)


@dataclass(slots=True)
class Index:
    """What `Blocks` makes of records."""

    blocks: list[Block] = field(default_factory=list)
    numbers: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    malformed: list[dict[str, Any]] = field(default_factory=list)


class Blocks:
    """The index over the log, each worker's request numbers, and where malformed lines stand."""

    name = "event-blocks"
    topic = LOGIN_EVENTS

    def __init__(self, summaries: Summaries) -> None:
        self._summaries = summaries

    def begin(self) -> Index:
        """Nothing yet."""
        return Index()

    def add(self, gathered: Index, record: LogRecord) -> None:
        """See `Consumer.add`."""
        summary = self._summaries.of(record)
        block = block_of(summary)
        if gathered.blocks and gathered.blocks[-1].may_take(block):
            gathered.blocks[-1] = gathered.blocks[-1].joined(block)
        else:
            gathered.blocks.append(block)
        _add_numbers(gathered.numbers, summary)
        gathered.malformed += [
            {
                "offset": summary.offset,
                "first_byte": line.first_byte,
                "size_bytes": line.size_bytes,
                "reason": line.reason,
                "at": summary.at,
            }
            for line in summary.malformed[:_POINTERS_PER_BATCH]
        ]

    def finish(self, gathered: Index) -> Index:
        """The gathering itself: the first block depends on the last one stored."""
        return gathered

    def store(self, connection: Connection, finished: Index) -> None:
        """See `Consumer.store`."""
        if not finished.blocks:
            return
        blocks = list(finished.blocks)
        row = connection.execute(_TAIL).first()
        tail = None if row is None else Block(*row)
        if tail is not None and tail.may_take(blocks[0]):
            blocks[0] = tail.joined(blocks[0])
        store_index(connection, blocks, finished.malformed)
        connection.execute(_NUMBERS, list(finished.numbers.values()))


def store_index(connection: Connection, blocks: list[Block], malformed: list[dict[str, Any]]) -> None:
    """Write blocks, of which the first may be a longer one of those there, and pointers at malformed lines."""
    if blocks:
        connection.execute(_BLOCK, [block.to_row() for block in blocks])
    if malformed:
        connection.execute(_MALFORMED, malformed)


EVENT_CONSUMERS = (LastSeen.name, Rollups.name, Blocks.name)


def _add_numbers(numbers: dict[tuple[str, str], dict[str, Any]], summary: Summary) -> None:
    empty = {
        "edge_id": summary.edge_id,
        "worker": summary.worker,
        "highest": -1,
        "written": 0,
        "events": 0,
        "failures": 0,
        "notices": 0,
        "malformed": 0,
        "at": 0,
    }
    row = numbers.setdefault((summary.edge_id, summary.worker), empty)
    row["highest"] = max(row["highest"], summary.highest)
    row["written"] = max(row["written"], summary.written)
    row["events"] += summary.events
    row["failures"] += summary.failures
    row["notices"] += summary.notices
    row["malformed"] += len(summary.malformed)
    row["at"] = max(row["at"], summary.at)

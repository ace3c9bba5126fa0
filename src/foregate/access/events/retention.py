"""How long events and what was made of them are kept: dropped in small steps by the worker, oldest first.

Opened with the rights RETENTION, which can delete and nothing else. Batches go by size and by age; what points at them
goes with them. Last seen is kept for ever: it is one short row per token that ever was let through.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from foregate.core.clock import Clock, to_micros
from foregate.database.engine import Database
from foregate.eventlog.model import EDGE_CONFIG, LOGIN_EVENTS
from foregate.eventlog.sql import SqlLog

# What a step may drop: some milliseconds' work, in which nobody else can write. A full batch is 400 KB of pages.
_STEP_BATCHES = 12
_STEP_ROWS = 200
_DAY = timedelta(days=1)
# Counts per minute are small and worth more than a month of history.
ROLLUPS_KEPT = 90 * _DAY
# An edge that was away longer takes a snapshot; until then it must still learn what is gone.
TOMBSTONES_KEPT = 30 * _DAY
RECEIPTS_KEPT = 90 * _DAY
MESSAGES_ASIDE_KEPT = 30 * _DAY
# Far longer than any spool waits: a batch of a worker that is forgotten would be taken in twice.
ENDED_WORKERS_KEPT = 180 * _DAY

_BLOCKS = text(
    "DELETE FROM event_blocks WHERE first_offset IN (SELECT first_offset FROM event_blocks "
    "WHERE last_offset <= :start ORDER BY first_offset LIMIT :limit)"
)
_MALFORMED = text('DELETE FROM malformed_lines WHERE "offset" <= :start')
_POISON = text('DELETE FROM poison_records WHERE topic = :topic AND "offset" <= :start')
# Of topics that are not in this log: whoever has not looked at it for so long does not miss it.
_MESSAGES = text("DELETE FROM poison_records WHERE topic <> :topic AND at < :before")
_ROLLUPS = text("DELETE FROM rollups WHERE minute < :minute")
# Of each edge the newest row stays: it says how far the edge is.
_PROGRESS = text(
    "DELETE FROM edge_progress WHERE at < :before AND applied_seq < "
    "(SELECT max(newer.applied_seq) FROM edge_progress AS newer WHERE newer.edge_id = edge_progress.edge_id)"
)
_REFUSALS = text("DELETE FROM edge_refusals WHERE at < :before")
_WORKER_TABLES = ("spool_gaps", "worker_numbers", "spool_positions")
_ENDED = text("SELECT edge_id, worker FROM spool_positions WHERE is_final = 1 AND updated_at < :before LIMIT :limit")


@dataclass(frozen=True, slots=True)
class Limits:
    """What is kept of events: bytes in the log, and time."""

    max_bytes: int
    max_age: timedelta


class Retention:
    """A chore of the worker (`eventlog.consumer.Chore`)."""

    name = "retention"

    def __init__(self, database: Database, limits: Limits, clock: Clock) -> None:
        self._database = database
        self._limits = limits
        self._clock = clock
        self._swept_minute = -1

    def step(self) -> bool:
        """Drop a little of what is over the limits. Whether more is left."""
        has_more = self._trim_events()
        minute = to_micros(self._clock()) // 60_000_000
        # The rest changes slowly, and is looked at once a minute.
        if not has_more and minute != self._swept_minute:
            has_more = self._sweep()
            self._swept_minute = -1 if has_more else minute
        return has_more

    def _trim_events(self) -> bool:
        now = to_micros(self._clock())
        before = now - _micros(self._limits.max_age)
        # Looked at first without a write transaction: nothing is to be dropped most of the time.
        with self._database.read() as connection:
            log = SqlLog(connection)
            bounds = log.bounds(LOGIN_EVENTS)
            oldest = log.read(LOGIN_EVENTS, bounds.start, limit=1)
        if bounds.size_bytes <= self._limits.max_bytes and (not oldest or oldest[0].at >= before):
            return False
        with self._database.write() as connection:
            log = SqlLog(connection)
            dropped = log.trim(LOGIN_EVENTS, max_bytes=self._limits.max_bytes, before=before, limit=_STEP_BATCHES)
            start = log.bounds(LOGIN_EVENTS).start
            connection.execute(_BLOCKS, {"start": start, "limit": _STEP_ROWS})
            connection.execute(_MALFORMED, {"start": start})
            connection.execute(_POISON, {"topic": LOGIN_EVENTS, "start": start})
        return dropped == _STEP_BATCHES

    def _sweep(self) -> bool:
        now = to_micros(self._clock())
        with self._database.write() as connection:
            connection.execute(_ROLLUPS, {"minute": (now - _micros(ROLLUPS_KEPT)) // 60_000_000})
            connection.execute(_PROGRESS, {"before": now - _micros(RECEIPTS_KEPT)})
            connection.execute(_REFUSALS, {"before": now - _micros(RECEIPTS_KEPT)})
            connection.execute(_MESSAGES, {"topic": LOGIN_EVENTS, "before": now - _micros(MESSAGES_ASIDE_KEPT)})
            before = now - _micros(ENDED_WORKERS_KEPT)
            ended = connection.execute(_ENDED, {"before": before, "limit": _STEP_ROWS}).all()
            for table in _WORKER_TABLES:
                statement = text(f"DELETE FROM {table} WHERE edge_id = :edge AND worker = :worker")  # noqa: S608
                for edge_id, worker in ended:
                    connection.execute(statement, {"edge": edge_id, "worker": worker})
            before = now - _micros(TOMBSTONES_KEPT)
            tombstones = SqlLog(connection).drop_tombstones(EDGE_CONFIG, before=before, limit=_STEP_ROWS)
        return tombstones == _STEP_ROWS or len(ended) == _STEP_ROWS


def _micros(length: timedelta) -> int:
    return length // timedelta(microseconds=1)

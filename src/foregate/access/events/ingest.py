"""Taking in batches of events from edges: each byte of a spool file goes into the log once, whatever is sent again.

Called by the feed's HTTP side for an edge that it has authenticated: `parse_batch` first, on a thread, then `take_in`
in a write transaction of telemetry.db. It answers how far the file has been taken in; an edge may free what lies below.
A span that was jumped over is a gap: counted as lost, and closed again should its bytes still arrive, so that the order
in which batches come makes no difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from foregate.access.events.batch import SpoolBatch, to_value
from foregate.core.clock import to_micros
from foregate.eventlog.model import LOGIN_EVENTS
from foregate.eventlog.sql import SqlLog

_POSITION = text("SELECT next_byte, is_final FROM spool_positions WHERE edge_id = :edge AND worker = :worker")
_MOVE = text(
    "INSERT INTO spool_positions (edge_id, worker, next_byte, is_final, updated_at) "
    "VALUES (:edge, :worker, :next, :is_final, :at) ON CONFLICT (edge_id, worker) DO UPDATE SET "
    "next_byte = excluded.next_byte, is_final = excluded.is_final, updated_at = excluded.updated_at"
)
_GAPS = text(
    "SELECT first_byte, end_byte FROM spool_gaps WHERE edge_id = :edge AND worker = :worker "
    "AND first_byte < :end AND end_byte > :start ORDER BY first_byte"
)
_ADD_GAP = text(
    "INSERT INTO spool_gaps (edge_id, worker, first_byte, end_byte, found_at) "
    "VALUES (:edge, :worker, :start, :end, :at)"
)
_CLOSE_GAP = text("DELETE FROM spool_gaps WHERE edge_id = :edge AND worker = :worker AND first_byte = :start")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a batch. `next_byte`: how far the spool file has been taken in or given up. `taken`, `repeated`
    and `lost` are bytes: new ones, ones that were here already, and ones jumped over before this batch."""

    next_byte: int
    taken: int
    repeated: int
    lost: int


def take_in(connection: Connection, batch: SpoolBatch, now: datetime) -> Receipt:
    """Append to topic `login-events` what is new in `batch`. Safe to repeat, in any order; one worker's lines may be
    split into batches in any way. Needs a write transaction with the rights INGEST."""
    at = to_micros(now)
    who = {"edge": batch.edge_id, "worker": batch.worker}
    known = connection.execute(_POSITION, who).first()
    position, was_final = (0, 0) if known is None else known
    log = SqlLog(connection)
    taken = 0
    for start, end in _missing(connection, batch, position, at):
        log.append(LOGIN_EVENTS, f"{batch.edge_id}/{batch.worker}", to_value(batch, start, end), at)
        taken += end - start
    lost = max(0, batch.start - position)
    if lost:
        connection.execute(_ADD_GAP, {**who, "start": position, "end": batch.start, "at": at})
    reached = max(position, batch.end)
    is_final = int(batch.is_final or was_final)
    if known is None or taken or is_final > was_final or reached > position:
        connection.execute(_MOVE, {**who, "next": reached, "is_final": is_final, "at": at})
    return Receipt(reached, taken, batch.size_bytes - taken, lost)


def position_of(connection: Connection, edge_id: str, worker: str) -> int:
    """How far a worker's spool file has been taken in."""
    known = connection.execute(_POSITION, {"edge": edge_id, "worker": worker}).first()
    return 0 if known is None else int(known.next_byte)


def _missing(connection: Connection, batch: SpoolBatch, position: int, at: int) -> list[tuple[int, int]]:
    """The spans of the batch that are not in the log: what lies in a gap (which shrinks by it), and what is ahead."""
    spans: list[tuple[int, int]] = []
    if batch.start < position and batch.size_bytes:
        who = {"edge": batch.edge_id, "worker": batch.worker}
        rows = connection.execute(_GAPS, {**who, "start": batch.start, "end": batch.end}).all()
        for first, end in rows:
            connection.execute(_CLOSE_GAP, {**who, "start": first})
            for rest_start, rest_end in ((first, batch.start), (batch.end, end)):
                if rest_start < rest_end:
                    connection.execute(_ADD_GAP, {**who, "start": rest_start, "end": rest_end, "at": at})
            spans.append((max(first, batch.start), min(end, batch.end)))
    if batch.end > max(position, batch.start):
        spans.append((max(position, batch.start), batch.end))
    return spans

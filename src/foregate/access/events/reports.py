"""What edges report about themselves, and what follows from it: their state, and receipts of changes.

A report is kept whole, as the newest word of an edge; when it had applied what, and what it refused, are kept besides.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, text

from foregate.core.clock import to_micros

# So much of a report's lists is kept in rows of their own; an edge that refuses more says so again later.
_MOST_REFUSALS = 1000
_LONGEST_REASON = 500

# What may wait in a spool that is being emptied without trouble: some two thirds of a second's events at full load.
_FLOWING_BYTES = 10_000_000

_KNOWN = text("SELECT applied_seq, caught_up_at FROM edge_states WHERE edge_id = :edge")
_STATE = text(
    "INSERT INTO edge_states (edge_id, applied_seq, caught_up_at, at, report) "
    "VALUES (:edge, :applied, :caught_up, :at, :report) ON CONFLICT (edge_id) DO UPDATE SET "
    "applied_seq = excluded.applied_seq, caught_up_at = excluded.caught_up_at, at = excluded.at, "
    "report = excluded.report"
)
_PROGRESS = text(
    "INSERT INTO edge_progress (edge_id, applied_seq, at) VALUES (:edge, :applied, :at) ON CONFLICT DO NOTHING"
)
_REFUSAL = text(
    "INSERT INTO edge_refusals (edge_id, record_key, seq, reason, at) VALUES (:edge, :key, :seq, :reason, :at) "
    "ON CONFLICT DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class Note:
    """A record that an edge refuses, or holds back, and why."""

    record_key: str
    seq: int
    reason: str


def take_report(connection: Connection, edge_id: str, report: dict[str, Any], now: datetime) -> None:
    """Keep an edge's report. Safe to repeat. `applied_seq` is a whole number (the feed's HTTP side has seen to that);
    whatever else is missing or malformed counts as not said. Needs a write transaction with the rights INGEST."""
    applied, at = int(report["applied_seq"]), to_micros(now)
    known = connection.execute(_KNOWN, {"edge": edge_id}).first()
    if known is None or applied > known.applied_seq:
        connection.execute(_PROGRESS, {"edge": edge_id, "applied": applied, "at": at})
    caught_up = at if _is_flowing(report) else 0 if known is None else known.caught_up_at
    row = {"edge": edge_id, "applied": applied, "caught_up": caught_up, "at": at}
    connection.execute(_STATE, {**row, "report": orjson.dumps(report).decode()})
    rows = [
        {"edge": edge_id, "key": note.record_key, "seq": note.seq, "reason": note.reason, "at": at}
        for note in notes(report, "refused")[:_MOST_REFUSALS]
    ]
    if rows:
        connection.execute(_REFUSAL, rows)


def notes(report: dict[str, Any], name: str) -> list[Note]:
    """The list `refused` or `held` of a report, without items that are not of the form."""
    items = report.get(name)
    found = [_note(item) for item in items] if isinstance(items, list) else []
    return [note for note in found if note is not None]


def _is_flowing(report: dict[str, Any]) -> bool:
    """Whether what the edge decided has reached us, but for what is on its way."""
    spool = report.get("spool")
    if not isinstance(spool, dict):
        return False
    backlog = spool.get("backlog_bytes")
    return isinstance(backlog, int) and backlog <= _FLOWING_BYTES and not spool.get("error")


def _note(item: object) -> Note | None:
    if not isinstance(item, dict):
        return None
    key, seq, reason = item.get("key"), item.get("seq"), item.get("reason", "")
    if not isinstance(key, str) or not isinstance(seq, int) or not isinstance(reason, str) or not 0 <= seq < 2**63:
        return None
    return Note(key[:300], int(seq), reason[:_LONGEST_REASON])

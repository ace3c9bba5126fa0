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

_APPLIED = text("SELECT applied_seq FROM edge_states WHERE edge_id = :edge")
_STATE = text(
    "INSERT INTO edge_states (edge_id, applied_seq, report, at) VALUES (:edge, :applied, :report, :at) "
    "ON CONFLICT (edge_id) DO UPDATE SET applied_seq = excluded.applied_seq, report = excluded.report, at = excluded.at"
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
    known = connection.execute(_APPLIED, {"edge": edge_id}).scalar()
    if known is None or applied > known:
        connection.execute(_PROGRESS, {"edge": edge_id, "applied": applied, "at": at})
    body = orjson.dumps(report).decode()
    connection.execute(_STATE, {"edge": edge_id, "applied": applied, "report": body, "at": at})
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


def _note(item: object) -> Note | None:
    if not isinstance(item, dict):
        return None
    key, seq, reason = item.get("key"), item.get("seq"), item.get("reason", "")
    if not isinstance(key, str) or not isinstance(seq, int) or not isinstance(reason, str) or not 0 <= seq < 2**63:
        return None
    return Note(key[:300], int(seq), reason[:_LONGEST_REASON])

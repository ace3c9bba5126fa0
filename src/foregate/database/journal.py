"""What goes with every change, in its transaction: a history row, an audit row, and outbox rows for the edges."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, insert

from foregate.core.clock import to_micros
from foregate.database.prepared import Prepared
from foregate.database.records_schema import audit, history, outbox

_JSON_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS
_INSERT_OUTBOX = Prepared(insert(outbox).returning(outbox.c.seq), ("record_key", "enqueued_at"))
_INSERT_HISTORY = Prepared(insert(history).inline(), ("account_id", "kind", "entity_id", "snapshot", "actor", "at"))
_INSERT_AUDIT = Prepared(
    insert(audit).inline(), ("account_id", "actor", "action", "kind", "entity_id", "change_seq", "at")
)


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes what. `kind` is the thing's noun (`service_token`), `action` the verb (`create`, `rotate`)."""

    actor: str
    action: str
    kind: str
    entity_id: str
    account_id: str


def record_change(
    connection: Connection, change: Change, snapshot: dict[str, Any] | None, record_keys: list[str], now: datetime
) -> int | None:
    """Write history, audit and outbox rows for one change; the highest outbox seq, None without record keys.

    `snapshot` is the thing as it is after the change, without secrets and digests; None once deleted. Times in it are
    aware or RFC 3339.
    """
    at = to_micros(now)
    seq = None
    for key in record_keys:
        seq = enqueue(connection, key, now)
    _INSERT_HISTORY.run(
        connection,
        {
            "account_id": change.account_id,
            "kind": change.kind,
            "entity_id": change.entity_id,
            "snapshot": orjson.dumps(snapshot, option=_JSON_OPTIONS).decode(),
            "actor": change.actor,
            "at": at,
        },
    )
    _INSERT_AUDIT.run(
        connection,
        {
            "account_id": change.account_id,
            "actor": change.actor,
            "action": change.action,
            "kind": change.kind,
            "entity_id": change.entity_id,
            "change_seq": seq,
            "at": at,
        },
    )
    return seq


def enqueue(connection: Connection, record_key: str, now: datetime) -> int:
    """An outbox row: the publisher will compile this key's state and send it to the edges. Its seq."""
    cursor = _INSERT_OUTBOX.run(connection, {"record_key": record_key, "enqueued_at": to_micros(now)})
    row = cursor.fetchone()
    if row is None:
        raise RuntimeError("the outbox row has no seq")
    return int(row[0])

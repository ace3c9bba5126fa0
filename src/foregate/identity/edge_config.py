"""From an edge that joined to its edge record `edge/<id>`: its secrets, sealed to it, or that it is expelled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from foregate.core.errors import ErrorCode, ForegateError
from foregate.database.journal import enqueue
from foregate.edge.rollout import EDGE_KIND
from foregate.edge.secrets import EdgeSecrets, mark_of, seal_secrets_to
from foregate.edge.wire import EdgeValue
from foregate.identity import edges_store


def edge_compiler(secrets: EdgeSecrets) -> Callable[[Connection, str], dict[str, Any] | None]:
    """`compile_record` for `edge/<id>`. The function raises ForegateError where this process has other secrets than
    the record is to hold: it has yet to be started again after a new pepper, and one that was will do it."""
    mark = mark_of(secrets)

    def compile_edge(connection: Connection, edge_id: str) -> dict[str, Any] | None:
        edge = edges_store.find_edge(connection, edge_id)
        if edge is None or edge.sealing_key is None:
            return None
        if edge.revoked_at is not None:
            return EdgeValue(edge.name, edge.group, True, b"").to_wire()
        if edges_store.secrets_mark(connection, edge_id) not in (None, mark):
            message = "This process does not know the newest pepper; start it again."
            raise ForegateError(ErrorCode.UNAVAILABLE, message)
        sealed = seal_secrets_to(secrets, edge.id, edge.sealing_key)
        return EdgeValue(edge.name, edge.group, False, sealed).to_wire()

    return compile_edge


def renew_secrets(connection: Connection, secrets: EdgeSecrets, now: datetime) -> int:
    """Have every joined edge that was given other secrets sent these; how many there are. At the start of a process,
    as secrets change with the master key's file alone."""
    mark = mark_of(secrets)
    stale = edges_store.edges_with_other_secrets(connection, mark)
    for edge_id in stale:
        edges_store.set_secrets_mark(connection, edge_id, mark)
        enqueue(connection, f"{EDGE_KIND}/{edge_id}", now)
    return len(stale)

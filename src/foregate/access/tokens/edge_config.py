"""Service tokens as edge records: the one reader of digests."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from foregate.access.tokens import store
from foregate.access.tokens.store import EdgeRow
from foregate.core.secrets import Digest
from foregate.edge.wire import SecretVersion, TokenValue

_MICROS = 1_000_000


def compile_record(connection: Connection, client_id: str) -> dict[str, Any] | None:
    """The value of record `token/<client_id>`; None (a tombstone) for a token that is deleted or never was.

    Raises RuntimeError for a token without its current secret: that must never reach an edge.
    """
    rows = store.find_for_edge(connection, client_id)
    if not rows:
        return None
    token = rows[0]
    if token.version != token.current_version:
        raise RuntimeError(f"token {token.token_id} has no secret of version {token.current_version}")
    value = TokenValue(
        token_id=token.token_id,
        account_id=token.account_id,
        is_enabled=bool(token.is_enabled),
        expires_at=None if token.expires_at is None else token.expires_at // _MICROS,
        secrets=tuple(_secret_version(row) for row in rows),
    )
    return value.to_wire()


def _secret_version(row: EdgeRow) -> SecretVersion:
    digest = Digest(row.digest, row.pepper_version)
    end = None if row.version == row.current_version else row.previous_expires_at
    return SecretVersion(
        version=row.version or 0,
        digest=digest.value.hex(),
        pepper_version=digest.pepper_version,
        expires_at=None if end is None else end // _MICROS,
    )

"""Service tokens as edge records: the one reader of digests."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from foregate.access.tokens import store
from foregate.access.tokens.model import ServiceToken
from foregate.core.clock import to_unix
from foregate.edge.wire import SecretVersion, TokenValue


def compile_record(connection: Connection, client_id: str) -> dict[str, Any] | None:
    """The value of record `token/<client_id>`; None (a tombstone) for a token that is deleted or never was.

    Raises RuntimeError for a token without its current secret: that must never reach an edge.
    """
    found = store.find_with_digests(connection, client_id)
    if found is None:
        return None
    token, digests = found
    if not digests or digests[0].version != token.secret_version:
        raise RuntimeError(f"token {token.id} has no secret of version {token.secret_version}")
    value = TokenValue(
        token_id=token.id,
        account_id=token.account_id,
        is_enabled=token.is_enabled,
        expires_at=None if token.expires_at is None else to_unix(token.expires_at),
        secrets=tuple(_secret_version(token, stored) for stored in digests),
    )
    return value.to_wire()


def _secret_version(token: ServiceToken, stored: store.StoredDigest) -> SecretVersion:
    end = None if stored.version == token.secret_version else token.previous_secret_expires_at
    return SecretVersion(
        version=stored.version,
        digest=stored.digest.value.hex(),
        pepper_version=stored.digest.pepper_version,
        expires_at=None if end is None else to_unix(end),
    )

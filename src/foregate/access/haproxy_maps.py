"""Token records to the entries of HAProxy's token maps. Pure; the agent keeps the entry beside the record."""

from __future__ import annotations

from foregate.core.ids import CLIENT_ID
from foregate.edge.wire import TokenValue
from foregate.engines.haproxy.maps import NEVER, TOMBSTONE, MapLine, SecretTag, TokenEntry, secret_tag


def token_entry(client_id: str, token: TokenValue) -> str:
    """The token's entry in base and overlay. ValueError for a client id that is not of the form."""
    if not CLIENT_ID.fullmatch(client_id):
        raise ValueError("not a client id")
    return TokenEntry(
        account_id=token.account_id,
        is_enabled=token.is_enabled,
        expires_at=NEVER if token.expires_at is None else token.expires_at,
        secrets=tuple(
            SecretTag(
                secret_tag(bytes.fromhex(version.digest), version.pepper_version),
                NEVER if version.expires_at is None else version.expires_at,
            )
            for version in token.secrets
        ),
    ).text


def overlay_line(client_id: str, entry: str | None) -> MapLine:
    """The overlay's line for a changed token, or for one that is gone (None)."""
    if not CLIENT_ID.fullmatch(client_id):
        raise ValueError("not a client id")
    return MapLine(client_id, TOMBSTONE if entry is None else entry)

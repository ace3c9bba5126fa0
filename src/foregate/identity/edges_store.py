"""The SQL of edges: who they are, their certificates, their join tokens, and the CA of the feed.

Digests go in once and are never updated. Nothing here decides; `identity/joining.py` does.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from cryptography import x509
from sqlalchemy import Connection, Row, delete, insert, select, update

from foregate.core.clock import from_micros, to_micros
from foregate.core.secrets import Digest
from foregate.database.records_schema import edge_certificates, edge_join_tokens, edges, feed_authority
from foregate.edge.feed_authority import fingerprint_of
from foregate.edge.feed_gates import Member
from foregate.identity.model import Edge, JoinToken

# A token that ended is remembered for a day, so that whoever comes late is told that, and not that it is unknown.
_REMEMBERED = 24 * 3_600 * 1_000_000


def insert_edge(connection: Connection, edge: Edge, key_digest: Digest | None) -> None:
    """A new edge: with the digest of an edge key, or with a sealing key. IntegrityError for a name that is taken."""
    connection.execute(
        insert(edges),
        {
            "id": edge.id,
            "name": edge.name,
            "group_name": edge.group,
            "key_digest": None if key_digest is None else key_digest.value,
            "sealing_key": edge.sealing_key,
            "created_at": to_micros(edge.created_at),
            "revoked_at": None if edge.revoked_at is None else to_micros(edge.revoked_at),
        },
    )


def find_edge_digest(connection: Connection, edge_id: str) -> bytes | None:
    """The digest of an edge's key; None where there is no such edge, it has no key, or it is revoked."""
    row = connection.execute(
        select(edges.c.key_digest).where(edges.c.id == edge_id, edges.c.revoked_at.is_(None))
    ).one_or_none()
    return None if row is None or row.key_digest is None else bytes(row.key_digest)


def find_edge(connection: Connection, edge_id: str) -> Edge | None:
    """The edge with this id, one that is revoked too."""
    row = connection.execute(select(edges).where(edges.c.id == edge_id)).one_or_none()
    return None if row is None else _edge(row)


def find_edge_by_name(connection: Connection, name: str) -> Edge | None:
    """The edge with this name that is not revoked."""
    row = connection.execute(select(edges).where(edges.c.name == name, edges.c.revoked_at.is_(None))).one_or_none()
    return None if row is None else _edge(row)


def list_edges(connection: Connection) -> list[Edge]:
    """All edges by age, the revoked ones too."""
    rows = connection.execute(select(edges).order_by(edges.c.created_at, edges.c.id)).all()
    return [_edge(row) for row in rows]


def edges_with_other_secrets(connection: Connection, mark: bytes) -> list[str]:
    """The ids of joined edges whose newest record holds other secrets than those of `mark`."""
    stale = edges.c.secrets_mark.is_(None) | (edges.c.secrets_mark != mark)
    query = select(edges.c.id).where(edges.c.sealing_key.is_not(None), edges.c.revoked_at.is_(None), stale)
    return [edge_id for (edge_id,) in connection.execute(query)]


def secrets_mark(connection: Connection, edge_id: str) -> bytes | None:
    """Which secrets the edge's record is to hold."""
    found = connection.execute(select(edges.c.secrets_mark).where(edges.c.id == edge_id)).scalar_one()
    return None if found is None else bytes(found)


def set_secrets_mark(connection: Connection, edge_id: str, mark: bytes) -> None:
    """From now on the edge's record holds the secrets of `mark`."""
    connection.execute(update(edges).where(edges.c.id == edge_id).values(secrets_mark=mark))


def set_group(connection: Connection, edge_id: str, group: str) -> None:
    """Another group."""
    connection.execute(update(edges).where(edges.c.id == edge_id).values(group_name=group))


def set_sealing_key(connection: Connection, edge_id: str, sealing_key: bytes) -> None:
    """Another public key to seal to: the edge has joined again."""
    connection.execute(update(edges).where(edges.c.id == edge_id).values(sealing_key=sealing_key))


def revoke_edge(connection: Connection, edge_id: str, now: datetime) -> bool:
    """End an edge for good; False where there is no such edge or it is revoked already."""
    changed = connection.execute(
        update(edges).where(edges.c.id == edge_id, edges.c.revoked_at.is_(None)).values(revoked_at=to_micros(now))
    )
    return changed.rowcount == 1


def insert_certificate(connection: Connection, edge_id: str, certificate: x509.Certificate, now: datetime) -> None:
    """A certificate that has just been issued to the edge. Those of it that are over go."""
    over = edge_certificates.c.expires_at <= to_micros(now)
    connection.execute(delete(edge_certificates).where(edge_certificates.c.edge_id == edge_id, over))
    connection.execute(
        insert(edge_certificates),
        {
            "fingerprint": fingerprint_of(certificate),
            "edge_id": edge_id,
            "issued_at": to_micros(now),
            "expires_at": to_micros(certificate.not_valid_after_utc),
        },
    )


def find_member(connection: Connection, fingerprint: bytes) -> Member | None:
    """The edge that this certificate was issued to, one that is expelled too."""
    columns = edges.c
    row = connection.execute(
        select(columns.id, columns.sealing_key, columns.revoked_at)
        .join(edge_certificates, edge_certificates.c.edge_id == columns.id)
        .where(edge_certificates.c.fingerprint == fingerprint)
    ).one_or_none()
    return None if row is None else Member(row.id, bytes(row.sealing_key), row.revoked_at is not None)


def has_older_certificate(connection: Connection, fingerprint: bytes) -> bool:
    """Whether the edge with this certificate has one that was issued before."""
    query = select(edge_certificates.c.edge_id).where(_older_than(fingerprint)).limit(1)
    return connection.execute(query).first() is not None


def drop_older_certificates(connection: Connection, fingerprint: bytes) -> None:
    """Those of the same edge that were issued before this one are good no longer."""
    connection.execute(delete(edge_certificates).where(_older_than(fingerprint)))


def drop_certificates(connection: Connection, edge_id: str) -> None:
    """The edge has joined again: no certificate of before is good any longer."""
    connection.execute(delete(edge_certificates).where(edge_certificates.c.edge_id == edge_id))


def insert_join_token(connection: Connection, token: JoinToken, digest: Digest, now: datetime) -> None:
    """A new join token. Those that ended go: nobody can use them any more."""
    connection.execute(delete(edge_join_tokens).where(edge_join_tokens.c.expires_at <= to_micros(now) - _REMEMBERED))
    connection.execute(
        insert(edge_join_tokens),
        {
            "id": token.id,
            "digest": digest.value,
            "group_name": token.group,
            "edge_id": token.edge_id,
            "created_at": to_micros(now),
            "expires_at": to_micros(token.expires_at),
        },
    )


def find_join_token(connection: Connection, digest: Digest) -> JoinToken | None:
    """The join token with this digest."""
    row = connection.execute(select(edge_join_tokens).where(edge_join_tokens.c.digest == digest.value)).one_or_none()
    if row is None:
        return None
    used_by = None if row.used_by is None else bytes(row.used_by)
    return JoinToken(row.id, row.group_name, row.edge_id, from_micros(row.expires_at), used_by)


def use_join_token(connection: Connection, token_id: str, edge_id: str, used_by: bytes, now: datetime) -> None:
    """The token is spent: the machine with the public key of digest `used_by` has become the edge."""
    change = update(edge_join_tokens).where(edge_join_tokens.c.id == token_id)
    connection.execute(change.values(edge_id=edge_id, used_at=to_micros(now), used_by=used_by))


def find_feed_authority(connection: Connection) -> tuple[bytes, bytes] | None:
    """The CA's certificate (PEM) and its sealed private key."""
    row = connection.execute(select(feed_authority)).one_or_none()
    return None if row is None else (row.certificate.encode(), bytes(row.private_key))


def insert_feed_authority(connection: Connection, certificate: bytes, sealed_key: bytes, now: datetime) -> None:
    """The CA. IntegrityError where there is one."""
    values = {"id": 1, "certificate": certificate.decode(), "private_key": sealed_key, "created_at": to_micros(now)}
    connection.execute(insert(feed_authority), values)


def _older_than(fingerprint: bytes) -> Any:
    this = edge_certificates.alias()
    return (
        select(this.c.fingerprint)
        .where(
            this.c.fingerprint == fingerprint,
            this.c.edge_id == edge_certificates.c.edge_id,
            this.c.issued_at > edge_certificates.c.issued_at,
        )
        .exists()
    )


def _edge(row: Row[Any]) -> Edge:
    return Edge(
        id=row.id,
        name=row.name,
        created_at=from_micros(row.created_at),
        revoked_at=None if row.revoked_at is None else from_micros(row.revoked_at),
        group=row.group_name,
        sealing_key=None if row.sealing_key is None else bytes(row.sealing_key),
    )

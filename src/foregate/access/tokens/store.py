"""The SQL of service tokens.

There is no function that writes a token back: each change updates its own named columns. Digests are inserted into
`secret_versions` and never touched again; only `edge_config` reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

from sqlalchemy import Connection, Row, exists, func, insert, or_, select, text, update

from foregate.access.tokens.model import (
    EnabledSet,
    ExpiryMoved,
    PreviousEndMoved,
    Renamed,
    SecretReplaced,
    ServiceToken,
    TokenChange,
)
from foregate.core.clock import from_micros, to_micros
from foregate.core.secrets import Digest
from foregate.database.prepared import Prepared
from foregate.database.records_schema import rule_references, secret_versions, service_tokens

_INSERT_TOKEN = Prepared(insert(service_tokens).inline(), tuple(column.name for column in service_tokens.columns))
_INSERT_SECRET_VERSION = Prepared(
    insert(secret_versions).inline(), ("token_id", "version", "digest", "pepper_version", "issued_at")
)


def insert_token(connection: Connection, token: ServiceToken) -> None:
    """A new token, without a secret."""
    _INSERT_TOKEN.run(
        connection,
        {
            "id": token.id,
            "account_id": token.account_id,
            "client_id": token.client_id,
            "name": token.name,
            "duration": token.duration,
            "is_enabled": int(token.is_enabled),
            "expires_at": _micros(token.expires_at),
            "secret_version": token.secret_version,
            "previous_secret_version": token.previous_secret_version,
            "previous_secret_expires_at": _micros(token.previous_secret_expires_at),
            "created_at": to_micros(token.created_at),
            "updated_at": to_micros(token.updated_at),
            "deleted_at": None,
        },
    )


def insert_secret_version(connection: Connection, token_id: str, version: int, digest: Digest, now: datetime) -> None:
    """The digest of a new secret. IntegrityError where this version exists: it is never replaced."""
    _INSERT_SECRET_VERSION.run(
        connection,
        {
            "token_id": token_id,
            "version": version,
            "digest": digest.value,
            "pepper_version": digest.pepper_version,
            "issued_at": to_micros(now),
        },
    )


def apply_change(connection: Connection, token_id: str, change: TokenChange, now: datetime) -> None:
    """Write one change of a token that is not deleted, its own columns only."""
    match change:
        case Renamed(name):
            columns: dict[str, Any] = {"name": name}
        case ExpiryMoved(duration, expires_at):
            columns = {"duration": duration, "expires_at": _micros(expires_at)}
        case EnabledSet(is_enabled):
            columns = {"is_enabled": int(is_enabled)}
        case SecretReplaced(version, previous, end):
            columns = {
                "secret_version": version,
                "previous_secret_version": previous,
                "previous_secret_expires_at": to_micros(end),
            }
        case PreviousEndMoved(previous, end):
            columns = {"previous_secret_version": previous, "previous_secret_expires_at": to_micros(end)}
        case _:
            assert_never(change)
    _update_columns(connection, token_id, columns | {"updated_at": to_micros(now)})


def mark_deleted(connection: Connection, token_id: str, now: datetime) -> None:
    """Revoke a token for good. Its row and its digests stay, for the record; no edge gets them any more."""
    _update_columns(connection, token_id, {"deleted_at": to_micros(now), "updated_at": to_micros(now)})


def find_token(connection: Connection, account_id: str, token_id: str) -> ServiceToken | None:
    """The token, unless it is deleted or another account's."""
    row = connection.execute(
        select(service_tokens).where(
            service_tokens.c.id == token_id,
            service_tokens.c.account_id == account_id,
            service_tokens.c.deleted_at.is_(None),
        )
    ).one_or_none()
    return None if row is None else _token(row)


def find_secret_version(connection: Connection, token_id: str) -> int | None:
    """The current secret version of a token; None once it is deleted."""
    return connection.execute(
        select(service_tokens.c.secret_version).where(
            service_tokens.c.id == token_id, service_tokens.c.deleted_at.is_(None)
        )
    ).scalar_one_or_none()


def has_secret_version(connection: Connection, token_id: str, version: int | None) -> bool:
    """Whether a secret was ever issued under this version."""
    if version is None:
        return False
    found = select(exists().where(secret_versions.c.token_id == token_id, secret_versions.c.version == version))
    return bool(connection.execute(found).scalar_one())


def list_tokens(
    connection: Connection, account_id: str, *, name: str | None, search: str | None, offset: int, limit: int
) -> tuple[list[ServiceToken], int]:
    """A page of an account's tokens, oldest first, and how many fit. `name` is exact, `search` a part of the name."""
    conditions = [service_tokens.c.account_id == account_id, service_tokens.c.deleted_at.is_(None)]
    if name is not None:
        conditions.append(service_tokens.c.name == name)
    if search is not None:
        conditions.append(service_tokens.c.name.icontains(search, autoescape=True))
    rows = connection.execute(
        select(service_tokens)
        .where(*conditions)
        .order_by(service_tokens.c.created_at, service_tokens.c.id)
        .limit(limit)
        .offset(offset)
    ).all()
    total = connection.execute(select(func.count()).select_from(service_tokens).where(*conditions)).scalar_one()
    return [_token(row) for row in rows], total


def find_references(connection: Connection, token_id: str) -> list[tuple[str, str]]:
    """The policies and groups that name this token: (`policy` or `group`, id)."""
    rows = connection.execute(
        select(rule_references.c.referrer_kind, rule_references.c.referrer_id)
        .where(rule_references.c.target_kind == "token", rule_references.c.target_id == token_id)
        .order_by(rule_references.c.referrer_kind.desc(), rule_references.c.referrer_id)
    ).all()
    return [(row.referrer_kind, row.referrer_id) for row in rows]


@dataclass(frozen=True, slots=True)
class EdgeRow:
    """A token and one of its live secret versions, as an edge needs them. Times are microseconds since 1970."""

    token_id: str
    account_id: str
    is_enabled: int
    expires_at: int | None
    current_version: int
    previous_expires_at: int | None
    version: int | None
    digest: bytes
    pepper_version: int


_FIND_FOR_EDGE = Prepared(
    text(
        "SELECT t.id, t.account_id, t.is_enabled, t.expires_at, t.secret_version, t.previous_secret_expires_at,"
        " s.version, s.digest, s.pepper_version FROM service_tokens t LEFT JOIN secret_versions s"
        " ON s.token_id = t.id AND s.version IN (t.secret_version, t.previous_secret_version)"
        " WHERE t.client_id = :client_id AND t.deleted_at IS NULL ORDER BY s.version DESC"
    )
)


def find_for_edge(connection: Connection, client_id: str) -> list[EdgeRow]:
    """A token's current and previous secret version, newest first; nothing for a token that is deleted.

    One row without a version stands for a token that has no secret: a damage. Runs once for every change.
    """
    return [EdgeRow(*row) for row in _FIND_FOR_EDGE.run(connection, {"client_id": client_id}).fetchall()]


def _update_columns(connection: Connection, token_id: str, columns: dict[str, Any]) -> None:
    changed = connection.execute(
        update(service_tokens)
        .where(service_tokens.c.id == token_id, service_tokens.c.deleted_at.is_(None))
        .values(**columns)
    )
    if changed.rowcount != 1:
        raise RuntimeError("a change must find its token: read it in the same transaction")


def _token(row: Row[Any]) -> ServiceToken:
    return ServiceToken(
        id=row.id,
        account_id=row.account_id,
        client_id=row.client_id,
        name=row.name,
        duration=row.duration,
        is_enabled=bool(row.is_enabled),
        expires_at=_moment(row.expires_at),
        secret_version=row.secret_version,
        previous_secret_version=row.previous_secret_version,
        previous_secret_expires_at=_moment(row.previous_secret_expires_at),
        created_at=from_micros(row.created_at),
        updated_at=from_micros(row.updated_at),
    )


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else to_micros(moment)


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


def count_live_secrets(connection: Connection, now: datetime) -> dict[int, int]:
    """How many secrets that may let a token in, now or once it is enabled, there are under each pepper."""
    token, secret = service_tokens.c, secret_versions.c
    is_previous = (secret.version == token.previous_secret_version) & (
        token.previous_secret_expires_at > to_micros(now)
    )
    rows = connection.execute(
        select(secret.pepper_version, func.count())
        .join(service_tokens, token.id == secret.token_id)
        .where(token.deleted_at.is_(None), or_(secret.version == token.secret_version, is_previous))
        .where(or_(token.expires_at.is_(None), token.expires_at > to_micros(now)))
        .group_by(secret.pepper_version)
    )
    return {version: count for version, count in rows}

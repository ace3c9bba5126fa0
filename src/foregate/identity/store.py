"""The SQL of identity. Digests go in once and are never updated; what changes is named column by column."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from foregate.api.auth import Permission, Principal
from foregate.core.clock import from_micros, to_micros
from foregate.core.errors import not_found
from foregate.core.secrets import Digest
from foregate.database.journal import Change
from foregate.database.records_schema import accounts, api_tokens, audit
from foregate.identity.model import Account, AccountSettings, AccountType, ApiTokenFacts, ApiTokenRow


def insert_account(connection: Connection, account: Account) -> None:
    """A new account. IntegrityError for an id that exists."""
    at = to_micros(account.created_on)
    connection.execute(
        insert(accounts),
        {
            "id": account.id,
            "name": account.name,
            "type": account.type.value,
            "settings": json.dumps(asdict(account.settings)),
            "created_at": at,
            "updated_at": at,
        },
    )


def update_account(connection: Connection, account_id: str, name: str, kind: AccountType, now: datetime) -> None:
    """Another name and type."""
    connection.execute(
        update(accounts)
        .where(accounts.c.id == account_id)
        .values(name=name, type=kind.value, updated_at=to_micros(now))
    )


def find_account(connection: Connection, account_id: str) -> Account | None:
    """The account, if there is one."""
    row = connection.execute(select(accounts).where(accounts.c.id == account_id)).one_or_none()
    return None if row is None else _account(row)


def list_accounts(
    connection: Connection, *, only: str | None, name: str | None, is_descending: bool, offset: int, limit: int
) -> tuple[list[Account], int]:
    """A page of accounts by age, and how many there are. `only` is the one account the caller may see."""
    conditions = []
    if only is not None:
        conditions.append(accounts.c.id == only)
    if name is not None:
        conditions.append(accounts.c.name == name)
    order = (accounts.c.created_at, accounts.c.id)
    rows = connection.execute(
        select(accounts)
        .where(*conditions)
        .order_by(*(column.desc() if is_descending else column for column in order))
        .offset(offset)
        .limit(limit)
    ).all()
    total = connection.execute(select(func.count()).select_from(accounts).where(*conditions)).scalar_one()
    return [_account(row) for row in rows], total


def insert_api_token(connection: Connection, principal: Principal, digest: Digest, now: datetime) -> None:
    """A new API token."""
    connection.execute(
        insert(api_tokens),
        {
            "id": principal.token_id,
            "account_id": principal.account_id,
            "name": principal.name,
            "digest": digest.value,
            "permissions": json.dumps(sorted(principal.permissions)),
            "status": "active" if principal.is_enabled else "disabled",
            "not_before": _optional_micros(principal.not_before),
            "expires_at": _optional_micros(principal.expires_at),
            "created_at": to_micros(now),
        },
    )


def find_api_token(connection: Connection, digest: bytes) -> ApiTokenRow | None:
    """The API token with this digest."""
    row = connection.execute(select(api_tokens).where(api_tokens.c.digest == digest)).one_or_none()
    if row is None:
        return None
    return ApiTokenRow(_principal(row), row.digest)


def list_api_tokens(
    connection: Connection, now: datetime, *, offset: int, limit: int
) -> tuple[list[ApiTokenFacts], int]:
    """A page of all API tokens, oldest first, and how many there are."""
    rows = connection.execute(
        select(api_tokens).order_by(api_tokens.c.created_at, api_tokens.c.id).offset(offset).limit(limit)
    ).all()
    total = connection.execute(select(func.count()).select_from(api_tokens)).scalar_one()
    return [_api_token_facts(row, now) for row in rows], total


def get_api_token(connection: Connection, token_id: str, now: datetime) -> ApiTokenFacts:
    """An API token. ForegateError(NOT_FOUND) where there is none with this id."""
    row = connection.execute(select(api_tokens).where(api_tokens.c.id == token_id)).one_or_none()
    if row is None:
        raise not_found("API token")
    return _api_token_facts(row, now)


def set_api_token_enabled(connection: Connection, token_id: str, is_enabled: bool) -> bool:
    """Enable or disable an API token; False where there is none."""
    status = "active" if is_enabled else "disabled"
    changed = connection.execute(update(api_tokens).where(api_tokens.c.id == token_id).values(status=status))
    return changed.rowcount == 1


def set_api_token_expiry(connection: Connection, token_id: str, expires_at: datetime | None) -> bool:
    """Another end of an API token; False where there is none."""
    changed = connection.execute(
        update(api_tokens).where(api_tokens.c.id == token_id).values(expires_at=_optional_micros(expires_at))
    )
    return changed.rowcount == 1


def credential_changes(connection: Connection, after: int) -> tuple[int, bool]:
    """The newest audit row's id (`after` without one), and whether one above `after` is about a credential.

    Rows become visible in the order of their ids, so none is passed by.
    """
    columns = audit.c
    newest = connection.execute(select(func.max(columns.id))).scalar() or 0
    about = columns.id > after, columns.id <= newest, columns.kind.in_(("api_token", "edge"))
    found = connection.execute(select(columns.id).where(*about).limit(1)).first()
    return max(newest, after), found is not None


def insert_audit(connection: Connection, change: Change, now: datetime, *, change_seq: int | None = None) -> None:
    """An audit row alone, for API tokens and edges, which may belong to no account."""
    connection.execute(
        insert(audit),
        {
            "account_id": change.account_id or None,
            "actor": change.actor,
            "action": change.action,
            "kind": change.kind,
            "entity_id": change.entity_id,
            "change_seq": change_seq,
            "at": to_micros(now),
        },
    )


def _principal(row: Row[Any]) -> Principal:
    return Principal(
        token_id=row.id,
        name=row.name,
        account_id=row.account_id,
        permissions=frozenset(Permission(word) for word in json.loads(row.permissions)),
        is_enabled=row.status == "active",
        not_before=_optional_time(row.not_before),
        expires_at=_optional_time(row.expires_at),
    )


def _api_token_facts(row: Row[Any], now: datetime) -> ApiTokenFacts:
    principal = _principal(row)
    return ApiTokenFacts(
        id=principal.token_id,
        name=principal.name,
        account_id=principal.account_id,
        permissions=tuple(sorted(principal.permissions)),
        status=principal.status(now),
        expires_on=principal.expires_at,
        created_on=from_micros(row.created_at),
    )


def _account(row: Row[Any]) -> Account:
    settings = AccountSettings(**json.loads(row.settings))
    return Account(row.id, row.name, AccountType(row.type), settings, from_micros(row.created_at))


def _optional_micros(moment: datetime | None) -> int | None:
    return None if moment is None else to_micros(moment)


def _optional_time(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)

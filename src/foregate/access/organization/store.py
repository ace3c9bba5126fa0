"""Organizations, signing keys and their settings in the records database. The only SQL about those."""

from __future__ import annotations

import json
from datetime import datetime

from sqlalchemy import Connection, Row, delete, insert, select, update

from foregate.access.organization.model import KeySettings, NewKey, Organization, OrganizationDraft, StoredKey
from foregate.core.clock import from_micros, to_micros
from foregate.core.errors import not_found
from foregate.database.records_schema import key_settings, organizations, signing_keys


def insert_organization(connection: Connection, organization: Organization) -> None:
    """The account's organization, which it must not have yet."""
    connection.execute(
        insert(organizations),
        {
            "account_id": organization.account_id,
            "settings": _settings(organization.draft),
            "created_at": to_micros(organization.created_at),
            "updated_at": to_micros(organization.updated_at),
        },
    )


def update_organization(connection: Connection, account_id: str, draft: OrganizationDraft, now: datetime) -> None:
    """Put `draft` in the place of what the organization was."""
    mine = organizations.c.account_id == account_id
    connection.execute(update(organizations).where(mine).values(settings=_settings(draft), updated_at=to_micros(now)))


def find_organization(connection: Connection, account_id: str) -> Organization | None:
    """The account's organization, or None."""
    row = connection.execute(select(organizations).where(organizations.c.account_id == account_id)).one_or_none()
    if row is None:
        return None
    created_at, updated_at = from_micros(row.created_at), from_micros(row.updated_at)
    return Organization(account_id, _read_settings(row.settings), created_at, updated_at)


def get_organization(connection: Connection, account_id: str) -> Organization:
    """The account's organization. ForegateError(NOT_FOUND) where it has none."""
    found = find_organization(connection, account_id)
    if found is None:
        raise not_found("organization")
    return found


def is_auth_domain_taken(connection: Connection, host: str, account_id: str) -> bool:
    """Whether another account's organization has this auth domain (a canonical host)."""
    rows = connection.execute(select(organizations.c.settings).where(organizations.c.account_id != account_id))
    return any(_read_settings(row.settings).auth_domain.lower().removesuffix(".") == host for row in rows)


def insert_key(connection: Connection, account_id: str, key: NewKey, now: datetime) -> None:
    """A new current key. The one before must have been given its end (`retire_keys`)."""
    connection.execute(
        insert(signing_keys),
        {
            "kid": key.kid,
            "account_id": account_id,
            "public_jwk": json.dumps(key.jwk),
            "certificate": key.certificate,
            "private_key": key.sealed,
            "created_at": to_micros(now),
            "retires_at": None,
        },
    )


def retire_keys(connection: Connection, account_id: str, until: datetime) -> None:
    """The current key stays published `until`; keys before it end at once and are deleted: current and previous."""
    mine = signing_keys.c.account_id == account_id
    connection.execute(delete(signing_keys).where(mine, signing_keys.c.retires_at.is_not(None)))
    connection.execute(
        update(signing_keys).where(mine, signing_keys.c.retires_at.is_(None)).values(retires_at=to_micros(until))
    )


def published_keys(connection: Connection, account_id: str, now: datetime) -> list[StoredKey]:
    """The account's current key, then the one before while it is published."""
    rows = connection.execute(
        select(signing_keys)
        .where(signing_keys.c.account_id == account_id)
        .order_by(signing_keys.c.retires_at.is_not(None), signing_keys.c.created_at.desc())
    )
    keys = [_read_key(row) for row in rows]
    return [key for key in keys if key.retires_at is None or key.retires_at > now]


def delete_retired_keys(connection: Connection, now: datetime) -> list[str]:
    """Delete all keys whose time is over, private halves included; the accounts they were of."""
    over = signing_keys.c.retires_at <= to_micros(now)
    rows = connection.execute(select(signing_keys.c.account_id).where(over).distinct()).all()
    if rows:
        connection.execute(delete(signing_keys).where(over))
    return [row.account_id for row in rows]


def insert_key_settings(connection: Connection, account_id: str, settings: KeySettings) -> None:
    """The account's first settings."""
    connection.execute(
        insert(key_settings),
        {
            "account_id": account_id,
            "rotation_interval_days": settings.rotation_interval_days,
            "last_rotated_at": to_micros(settings.last_rotated_at),
        },
    )


def update_key_settings(connection: Connection, account_id: str, settings: KeySettings) -> None:
    """Put `settings` in the place of the account's."""
    connection.execute(
        update(key_settings)
        .where(key_settings.c.account_id == account_id)
        .values(
            rotation_interval_days=settings.rotation_interval_days,
            last_rotated_at=to_micros(settings.last_rotated_at),
        )
    )


def get_key_settings(connection: Connection, account_id: str) -> KeySettings:
    """The account's settings. ForegateError(NOT_FOUND) where it has no organization yet."""
    row = connection.execute(select(key_settings).where(key_settings.c.account_id == account_id)).one_or_none()
    if row is None:
        raise not_found("organization")
    return KeySettings(row.rotation_interval_days, from_micros(row.last_rotated_at))


def all_key_settings(connection: Connection) -> dict[str, KeySettings]:
    """The settings of every account that has keys."""
    rows = connection.execute(select(key_settings))
    return {row.account_id: KeySettings(row.rotation_interval_days, from_micros(row.last_rotated_at)) for row in rows}


def _settings(draft: OrganizationDraft) -> str:
    return json.dumps(
        {
            "name": draft.name,
            "auth_domain": draft.auth_domain,
            "session_duration": draft.session_duration,
            "denies_unmatched": draft.denies_unmatched,
            "exempted_names": draft.exempted_names,
            "kept": draft.kept,
        }
    )


def _read_settings(text: str) -> OrganizationDraft:
    data = json.loads(text)
    names = data.get("exempted_names")
    return OrganizationDraft(
        name=data["name"],
        auth_domain=data["auth_domain"],
        session_duration=data.get("session_duration"),
        denies_unmatched=data.get("denies_unmatched"),
        exempted_names=None if names is None else tuple(names),
        kept=data.get("kept") or {},
    )


def _read_key(row: Row[tuple[object, ...]]) -> StoredKey:
    return StoredKey(
        kid=row.kid,
        account_id=row.account_id,
        jwk=json.loads(row.public_jwk),
        certificate=row.certificate,
        created_at=from_micros(row.created_at),
        retires_at=None if row.retires_at is None else from_micros(row.retires_at),
        sealed=row.private_key,
    )

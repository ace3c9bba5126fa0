"""Setting up and changing an organization, replacing its keys: rows, history, audit, outbox in the caller's
transaction.

Keys are made before (`keys.new_signing_key`, slow) and handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from foregate.access.applications.applications_store import application_ids_without_session
from foregate.access.organization import store
from foregate.access.organization.bodies import OrganizationBody
from foregate.access.organization.keys import new_signing_key
from foregate.access.organization.model import KeySettings, NewKey, Organization, OrganizationDraft
from foregate.access.organization.rules import DEFAULT_INTERVAL_DAYS, OVERLAP, amend, host_of
from foregate.access.organization.views import organization_view
from foregate.core.errors import ErrorCode, ForegateError
from foregate.core.masterkey import MasterKey
from foregate.database.host_owners import find_foreign_host
from foregate.database.journal import Change, record_change


@dataclass(frozen=True, slots=True)
class OrganizationSetUp:
    """What every new account gets (`identity.issuing.AccountSetUp`): an organization and a first signing key.

    The first account's auth domain is `auth_domain`, the others' `<first 8 of the account id>.<auth_domain>`, as
    one host name is one issuer.
    """

    master_key: MasterKey
    auth_domain: str

    def __call__(self, connection: Connection, account_id: str, actor: str, now: datetime) -> None:
        """Write it. Makes a key, so it holds the writer for some tenths of a second: accounts are rare."""
        is_taken = store.is_auth_domain_taken(connection, self.auth_domain, account_id)
        domain = f"{account_id[:8]}.{self.auth_domain}" if is_taken else self.auth_domain
        draft = OrganizationDraft(name="Foregate", auth_domain=domain)
        key = new_signing_key(self.master_key.key_encryption_key(), now)
        set_up(connection, actor, Organization(account_id, draft, now, now), key)


def set_up(connection: Connection, actor: str, organization: Organization, key: NewKey) -> int:
    """A new organization with its first key; the seq of the change.

    ForegateError(ALREADY_EXISTS) where the account has one, INVALID_INPUT where the auth domain is another's.
    """
    account_id, now = organization.account_id, organization.created_at
    if store.find_organization(connection, account_id) is not None:
        message = "this account has its organization already; change it with PUT."
        raise ForegateError(ErrorCode.ALREADY_EXISTS, message)
    _require_own_domain(connection, organization.draft, account_id)
    store.insert_organization(connection, organization)
    store.insert_key_settings(connection, account_id, KeySettings(DEFAULT_INTERVAL_DAYS, now))
    store.insert_key(connection, account_id, key, now)
    change = Change(actor, "create", "organization", account_id, account_id)
    snapshot = {**organization_view(organization), "kid": key.kid}
    return _seq(record_change(connection, change, snapshot, [f"keys/{account_id}", f"account/{account_id}"], now))


def change_organization(
    connection: Connection, actor: str, account_id: str, body: OrganizationBody, now: datetime
) -> tuple[Organization, int]:
    """What the body says, the rest as it was. Another session duration concerns the applications without their own."""
    present = store.get_organization(connection, account_id)
    draft = amend(present.draft, body)
    if draft.auth_domain != present.draft.auth_domain:
        _require_own_domain(connection, draft, account_id)
    store.update_organization(connection, account_id, draft, now)
    changed = store.get_organization(connection, account_id)
    keys = []
    if draft.session_duration != present.draft.session_duration:
        keys = [f"app/{one}" for one in application_ids_without_session(connection, account_id)]
    change = Change(actor, "update", "organization", account_id, account_id)
    seq = record_change(connection, change, organization_view(changed), [*keys, f"account/{account_id}"], now)
    return changed, _seq(seq)


def set_interval(connection: Connection, actor: str, account_id: str, days: int, now: datetime) -> KeySettings:
    """Another rotation interval. Edges need not know."""
    present = store.get_key_settings(connection, account_id)
    settings = KeySettings(days, present.last_rotated_at)
    store.update_key_settings(connection, account_id, settings)
    change = Change(actor, "update", "keys", account_id, account_id)
    record_change(connection, change, {"rotation_interval_days": days}, [], now)
    return settings


def rotate(connection: Connection, actor: str, account_id: str, key: NewKey, now: datetime) -> tuple[KeySettings, int]:
    """Make `key` the current one. The one before stays published for `OVERLAP`, the one before that ends at once:
    so a key that got out is gone after two rotations."""
    present = store.get_key_settings(connection, account_id)
    settings = KeySettings(present.rotation_interval_days, now)
    store.retire_keys(connection, account_id, now + OVERLAP)
    store.insert_key(connection, account_id, key, now)
    store.update_key_settings(connection, account_id, settings)
    change = Change(actor, "rotate", "keys", account_id, account_id)
    seq = record_change(connection, change, {"kid": key.kid}, [f"keys/{account_id}"], now)
    return settings, _seq(seq)


def _require_own_domain(connection: Connection, draft: OrganizationDraft, account_id: str) -> None:
    host = host_of(draft.auth_domain, "/auth_domain")
    if store.is_auth_domain_taken(connection, host, account_id):
        message = "This auth_domain is another account's; each account needs its own."
        raise ForegateError(ErrorCode.INVALID_INPUT, message, pointer="/auth_domain")
    # The edge answers there with the keys of whoever covers the host: they must be the issuer's own.
    if find_foreign_host(connection, [host], account_id) is not None:
        message = f"{host} is covered by another account already; choose another auth_domain."
        raise ForegateError(ErrorCode.INVALID_INPUT, message, pointer="/auth_domain")


def _seq(seq: int | None) -> int:
    if seq is None:
        raise RuntimeError("a change of an organization has a record")
    return seq

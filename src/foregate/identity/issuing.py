"""Making accounts, API tokens and edges: what `foregate up` does on its first start, and the API after that.

Every function takes a connection inside a write transaction. A secret is returned once and stored as a digest.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection

from foregate.api.auth import Permission, Principal
from foregate.core.errors import not_found
from foregate.core.ids import new_account_id, new_uuid
from foregate.core.masterkey import MasterKey
from foregate.core.secrets import API_TOKEN_PREFIX, EDGE_KEY_PREFIX, Digest, Secret, digest_secret, new_secret
from foregate.database.journal import Change, record_change
from foregate.identity import edges_store, store
from foregate.identity.model import Account, AccountSettings, AccountType, Edge

AccountSetUp = Callable[[Connection, str, str, datetime], None]
"""`set_up(connection, account_id, actor, now)`: what another product needs in every new account (its organization,
its signing keys), in the same transaction. `services/` passes them in."""

BOOTSTRAP = "foregate up"
# API tokens and edge keys are digested under one key of the master key, which has no successors yet.
_KEY_VERSION = 1


def create_account(
    connection: Connection,
    name: str,
    now: datetime,
    *,
    kind: AccountType = AccountType.STANDARD,
    actor: str = BOOTSTRAP,
    set_ups: Sequence[AccountSetUp] = (),
) -> tuple[Account, int | None]:
    """A new account, and the seq of the change that tells the edges."""
    account = Account(new_account_id(), name, kind, AccountSettings(), now)
    store.insert_account(connection, account)
    for set_up in set_ups:
        set_up(connection, account.id, actor, now)
    change = Change(actor, "create", "account", account.id, account.id)
    return account, record_change(connection, change, snapshot(account), [f"account/{account.id}"], now)


def create_api_token(
    connection: Connection,
    master_key: MasterKey,
    name: str,
    now: datetime,
    *,
    account_id: str | None,
    permissions: frozenset[Permission] = frozenset(Permission),
    not_before: datetime | None = None,
    expires_at: datetime | None = None,
    actor: str = BOOTSTRAP,
) -> tuple[Principal, Secret]:
    """A new API token and its secret. `account_id` None: for all accounts (the administrator's)."""
    principal = Principal(
        token_id=secrets.token_hex(16),
        name=name,
        account_id=account_id,
        permissions=permissions,
        is_enabled=True,
        not_before=not_before,
        expires_at=expires_at,
    )
    secret = new_secret(API_TOKEN_PREFIX)
    store.insert_api_token(connection, principal, digest_key(master_key.api_token_key(), secret), now)
    store.insert_audit(connection, Change(actor, "create", "api_token", principal.token_id, account_id or ""), now)
    return principal, secret


def create_edge(
    connection: Connection, master_key: MasterKey, name: str, now: datetime, *, actor: str = BOOTSTRAP
) -> tuple[Edge, Secret]:
    """A new edge and its key."""
    edge = Edge(new_uuid(), name, now)
    key = new_secret(EDGE_KEY_PREFIX)
    edges_store.insert_edge(connection, edge, digest_key(master_key.api_token_key(), key))
    store.insert_audit(connection, Change(actor, "create", "edge", edge.id, ""), now)
    return edge, key


def update_account(
    connection: Connection, account_id: str, now: datetime, *, name: str, kind: AccountType | None, actor: str
) -> Account:
    """Another name, and type if given. ForegateError(NOT_FOUND) for an account that does not exist."""
    account = store.find_account(connection, account_id)
    if account is None:
        raise not_found("account")
    store.update_account(connection, account_id, name, kind or account.type, now)
    changed = Account(account_id, name, kind or account.type, account.settings, account.created_on)
    # No edge needs an account's name, so there is no record to publish.
    record_change(connection, Change(actor, "update", "account", account_id, account_id), snapshot(changed), [], now)
    return changed


def digest_key(key: bytes, secret: Secret) -> Digest:
    """The digest under which an API token or an edge key is stored and found. `key`: `MasterKey.api_token_key()`."""
    return digest_secret(secret, key, _KEY_VERSION)


def snapshot(account: Account) -> dict[str, object]:
    """An account for the history."""
    return {"id": account.id, "name": account.name, "type": account.type.value}

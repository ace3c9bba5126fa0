"""From an organization and its signing keys to edge records `account/<id>` and `keys/<account>`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from foregate.access.organization.keys import unseal_private_key
from foregate.access.organization.model import OrganizationDraft
from foregate.access.organization.rules import host_of
from foregate.access.organization.store import find_organization, published_keys
from foregate.core.clock import Clock, utc_now
from foregate.core.masterkey import MasterKey
from foregate.edge.sealing import seal_signing_key
from foregate.edge.wire import AccountValue, KeysValue, SigningKey


def compile_account(connection: Connection, name: str) -> dict[str, Any] | None:
    """The value of `account/<id>` as it is now; None for an account without an organization."""
    organization = find_organization(connection, name)
    return None if organization is None else account_value(organization.draft).to_wire()


def account_value(draft: OrganizationDraft) -> AccountValue:
    """The record's value. Pure."""
    return AccountValue(
        auth_domain=host_of(draft.auth_domain, "/auth_domain"),
        denies_unmatched_requests=draft.denies_unmatched is not False,
        exempted_hosts=tuple(host_of(name, "") for name in draft.exempted_names or ()),
    )


def keys_compiler(master_key: MasterKey, clock: Clock = utc_now) -> Callable[[Connection, str], dict[str, Any] | None]:
    """`compile_record` for `keys/<account>`: private halves opened and sealed again for the edges.

    The function raises SealBroken where a stored key does not open: it must not be published without its key.
    """
    stored_under, sealed_under = master_key.key_encryption_key(), master_key.edge_sealing_key()

    def compile_keys(connection: Connection, name: str) -> dict[str, Any] | None:
        keys = [
            SigningKey(
                kid=key.kid,
                jwk=key.jwk,
                certificate=key.certificate,
                private_key=seal_signing_key(
                    sealed_under, key.kid, unseal_private_key(stored_under, key.kid, key.sealed)
                ),
            )
            for key in published_keys(connection, name, clock())
        ]
        return KeysValue(tuple(keys)).to_wire() if keys else None

    return compile_keys

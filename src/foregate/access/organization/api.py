"""The calls about the organization and its signing keys (reference page, sections 2.1 and 3)."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import Connection

from foregate.access.organization import store, writes
from foregate.access.organization.bodies import KeysPut, OrganizationBody, OrganizationCreate
from foregate.access.organization.keys import new_signing_key
from foregate.access.organization.model import Organization, OrganizationDraft
from foregate.access.organization.rules import amend
from foregate.access.organization.views import KeysView, OrganizationView, keys_view, organization_view
from foregate.api.changes import Changes
from foregate.api.envelope import Answer
from foregate.api.errors import Family
from foregate.api.operations import Call, Operations
from foregate.core.errors import ErrorCode
from foregate.core.masterkey import MasterKey
from foregate.database.engine import AsyncDatabase

_ORGANIZATION = "/accounts/{account_id}/access/organizations"
_KEYS = "/accounts/{account_id}/access/keys"


class OrganizationApi:
    """Handlers of the organization."""

    def __init__(self, database: AsyncDatabase, changes: Changes, master_key: MasterKey) -> None:
        self._database = database
        self._changes = changes
        self._sealed_under = master_key.key_encryption_key()

    def operations(self) -> Operations:
        """All calls."""
        operations = Operations("Zero Trust organization", Family.ORGANIZATION)
        add = operations.add
        add("GET", _ORGANIZATION, self.get, "Get the organization", result=OrganizationView)
        add("POST", _ORGANIZATION, self.create, "Create the organization", body=OrganizationCreate,
            result=OrganizationView, status=201, errors=(ErrorCode.ALREADY_EXISTS,))  # fmt: skip
        for method in ("PUT", "PATCH"):
            add(method, _ORGANIZATION, self.change, "Change the organization", body=OrganizationBody,
                result=OrganizationView)  # fmt: skip
        return operations

    async def get(self, call: Call[None, None]) -> Answer:
        """The organization."""
        found = await self._database.read(lambda connection: store.get_organization(connection, call.account_id))
        return Answer(organization_view(found))

    async def create(self, call: Call[None, OrganizationCreate]) -> Answer:
        """A new organization with its first signing key."""
        draft = amend(OrganizationDraft(call.body.name, call.body.auth_domain), call.body)
        organization = Organization(call.account_id, draft, call.at, call.at)
        key = await asyncio.to_thread(new_signing_key, self._sealed_under, call.at)

        def work(connection: Connection) -> Answer:
            seq = writes.set_up(connection, call.actor, organization, key)
            return Answer(organization_view(organization), change_seq=seq, is_kept_for_retry=True)

        return await self._changes.run(call, work)

    async def change(self, call: Call[None, OrganizationBody]) -> Answer:
        """What the body says; the rest stays."""

        def work(connection: Connection) -> Answer:
            changed, seq = writes.change_organization(connection, call.actor, call.account_id, call.body, call.at)
            return Answer(organization_view(changed), change_seq=seq)

        return await self._changes.run(call, work)


class KeysApi:
    """Handlers of the signing keys' settings."""

    def __init__(self, database: AsyncDatabase, changes: Changes, master_key: MasterKey) -> None:
        self._database = database
        self._changes = changes
        self._sealed_under = master_key.key_encryption_key()

    def operations(self) -> Operations:
        """All calls."""
        operations = Operations("Access keys", Family.KEYS)
        add = operations.add
        add("GET", _KEYS, self.get, "Get the signing keys' settings", result=KeysView)
        add("PUT", _KEYS, self.set_interval, "Set the rotation interval", body=KeysPut, result=KeysView)
        add("POST", _KEYS + "/rotate", self.rotate, "Replace the signing key", result=KeysView)
        return operations

    async def get(self, call: Call[None, None]) -> Answer:
        """The settings."""
        settings = await self._database.read(lambda connection: store.get_key_settings(connection, call.account_id))
        return Answer(keys_view(settings, call.at))

    async def set_interval(self, call: Call[None, KeysPut]) -> Answer:
        """Another interval. A key that is due by it is replaced by the next run of `rotation`."""
        days = call.body.key_rotation_interval_days

        def work(connection: Connection) -> Answer:
            settings = writes.set_interval(connection, call.actor, call.account_id, days, call.at)
            return Answer(keys_view(settings, call.at))

        return await self._changes.run(call, work)

    async def rotate(self, call: Call[None, Any]) -> Answer:
        """Another key from now on; the one before stays published for a week."""
        key = await asyncio.to_thread(new_signing_key, self._sealed_under, call.at)

        def work(connection: Connection) -> Answer:
            settings, seq = writes.rotate(connection, call.actor, call.account_id, key, call.at)
            # A second run would take back the key that is in use now.
            return Answer(keys_view(settings, call.at), change_seq=seq, is_kept_for_retry=True)

        return await self._changes.run(call, work)

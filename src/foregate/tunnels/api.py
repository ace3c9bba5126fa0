"""The calls about cloudflared tunnels: a named list of ingress rules that says where applications' origins are."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import Connection

from foregate.api.changes import Changes
from foregate.api.envelope import Answer
from foregate.api.errors import Family
from foregate.api.operations import Call, Operations
from foregate.api.paging import page_info
from foregate.core.clock import parse_time
from foregate.core.errors import ErrorCode
from foregate.core.ids import parse_uuid
from foregate.database.engine import AsyncDatabase
from foregate.tunnels import store, writes
from foregate.tunnels.bodies import ConfigurationPut, TunnelCreate, TunnelEdit, TunnelsQuery
from foregate.tunnels.ca_pools import read_ca_pools
from foregate.tunnels.model import Author
from foregate.tunnels.rules import ca_pool_paths
from foregate.tunnels.store import Filter
from foregate.tunnels.views import ConfigurationView, TunnelView, configuration_view, tunnel_view

_TUNNELS = "/accounts/{account_id}/cfd_tunnel"
_TUNNEL = _TUNNELS + "/{tunnel_id}"
_CONFIGURATIONS = _TUNNEL + "/configurations"


class TunnelsApi:
    """Handlers of tunnels."""

    def __init__(self, database: AsyncDatabase, changes: Changes) -> None:
        self._database = database
        self._changes = changes

    def operations(self) -> Operations:
        """All calls."""
        operations = Operations("Tunnels", Family.TUNNEL)
        add, taken = operations.add, (ErrorCode.ALREADY_EXISTS,)
        add("GET", _TUNNELS, self.list, "List tunnels", query=TunnelsQuery, result=TunnelView, is_list=True)
        add("POST", _TUNNELS, self.create, "Create a tunnel", body=TunnelCreate, result=TunnelView, errors=taken)
        add("GET", _TUNNEL, self.get, "Get a tunnel", result=TunnelView)
        add("PATCH", _TUNNEL, self.edit, "Rename a tunnel", body=TunnelEdit, result=TunnelView, errors=taken)
        add("DELETE", _TUNNEL, self.delete, "Delete a tunnel", result=TunnelView)
        add("GET", _CONFIGURATIONS, self.get_configuration, "Get a tunnel's ingress", result=ConfigurationView)
        add("PUT", _CONFIGURATIONS, self.configure, "Replace a tunnel's ingress", body=ConfigurationPut,
            result=ConfigurationView)  # fmt: skip
        return operations

    async def list(self, call: Call[TunnelsQuery, None]) -> Answer:
        """A page of the account's tunnels, oldest first."""
        query = call.query
        wanted = Filter(
            name=query.name,
            tunnel_id=parse_uuid(query.uuid, "tunnel", pointer="?uuid") if query.uuid else None,
            is_deleted=query.is_deleted,
            existed_at=parse_time(query.existed_at, pointer="?existed_at") if query.existed_at else None,
            include_prefix=query.include_prefix,
            exclude_prefix=query.exclude_prefix,
        )
        found, total = await self._database.read(
            lambda connection: store.page_of_tunnels(
                connection, call.account_id, wanted, limit=query.per_page, offset=query.offset
            )
        )
        return Answer([tunnel_view(tunnel) for tunnel in found], info=page_info(query, len(found), total))

    async def create(self, call: Call[None, TunnelCreate]) -> Answer:
        """A new tunnel."""

        def work(connection: Connection) -> Answer:
            tunnel = writes.create_tunnel(connection, _author(call), call.account_id, call.body.name)
            return Answer(tunnel_view(tunnel), is_kept_for_retry=True)

        return await self._changes.run(call, work)

    async def get(self, call: Call[None, None]) -> Answer:
        """One tunnel, deleted ones included."""
        tunnel_id = _tunnel_id(call)
        tunnel = await self._database.read(lambda connection: store.get_tunnel(connection, call.account_id, tunnel_id))
        return Answer(tunnel_view(tunnel))

    async def edit(self, call: Call[None, TunnelEdit]) -> Answer:
        """Another name."""
        tunnel_id = _tunnel_id(call)

        def work(connection: Connection) -> Answer:
            tunnel = store.get_tunnel(connection, call.account_id, tunnel_id, is_live=True)
            if call.body.name is not None:
                tunnel = writes.rename_tunnel(connection, _author(call), tunnel, call.body.name)
            return Answer(tunnel_view(tunnel))

        return await self._changes.run(call, work)

    async def delete(self, call: Call[None, None]) -> Answer:
        """Delete a tunnel with its ingress."""
        tunnel_id = _tunnel_id(call)

        def work(connection: Connection) -> Answer:
            tunnel = store.get_tunnel(connection, call.account_id, tunnel_id, is_live=True)
            deleted, seq = writes.delete_tunnel(connection, _author(call), tunnel)
            return Answer(tunnel_view(deleted), change_seq=seq, is_kept_for_retry=True)

        return await self._changes.run(call, work)

    async def get_configuration(self, call: Call[None, None]) -> Answer:
        """The ingress as it was written."""
        tunnel_id = _tunnel_id(call)

        def read(connection: Connection) -> dict[str, Any]:
            tunnel = store.get_tunnel(connection, call.account_id, tunnel_id, is_live=True)
            return configuration_view(tunnel, store.find_configuration(connection, tunnel.id))

        return Answer(await self._database.read(read))

    async def configure(self, call: Call[None, ConfigurationPut]) -> Answer:
        """The ingress as the body says."""
        tunnel_id, body = _tunnel_id(call), call.body.config
        files = await asyncio.to_thread(read_ca_pools, ca_pool_paths(body))

        def work(connection: Connection) -> Answer:
            tunnel = store.get_tunnel(connection, call.account_id, tunnel_id, is_live=True)
            configuration, seq = writes.configure(connection, _author(call), tunnel, body, files)
            return Answer(configuration_view(tunnel, configuration), change_seq=seq)

        return await self._changes.run(call, work)


def _tunnel_id(call: Call[Any, Any]) -> str:
    return parse_uuid(call.path["tunnel_id"], "tunnel")


def _author(call: Call[Any, Any]) -> Author:
    return Author(call.actor, call.at)

"""Creating, changing and deleting tunnels and their configurations in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from foregate.core.errors import ErrorCode, ForegateError, invalid
from foregate.core.ids import new_uuid
from foregate.database.host_owners import find_foreign_host
from foregate.database.journal import Change, record_change
from foregate.tunnels import store
from foregate.tunnels.bodies import ConfigurationBody
from foregate.tunnels.model import Author, Configuration, Tunnel
from foregate.tunnels.rules import given_configuration, read_configuration
from foregate.tunnels.views import tunnel_view


def create_tunnel(connection: Connection, author: Author, account_id: str, name: str) -> Tunnel:
    """A new tunnel. ForegateError(ALREADY_EXISTS) where another one has the name."""
    _require_free(connection, account_id, name)
    tunnel = Tunnel(new_uuid(), account_id, name, author.at, None)
    store.insert_tunnel(connection, tunnel)
    change = Change(author.actor, "create", "tunnel", tunnel.id, account_id)
    record_change(connection, change, tunnel_view(tunnel), [], author.at)
    return tunnel


def rename_tunnel(connection: Connection, author: Author, tunnel: Tunnel, name: str) -> Tunnel:
    """Another name. ForegateError(ALREADY_EXISTS) where another tunnel has it."""
    if name != tunnel.name:
        _require_free(connection, tunnel.account_id, name)
        store.rename_tunnel(connection, tunnel.id, name)
    renamed = store.get_tunnel(connection, tunnel.account_id, tunnel.id)
    change = Change(author.actor, "update", "tunnel", tunnel.id, tunnel.account_id)
    record_change(connection, change, tunnel_view(renamed), [], author.at)
    return renamed


def delete_tunnel(connection: Connection, author: Author, tunnel: Tunnel) -> tuple[Tunnel, int | None]:
    """Delete a tunnel: its hosts have no origin from now on. The deleted tunnel, and the seq of the change."""
    hostnames = store.hostnames_of(connection, tunnel.id)
    store.delete_tunnel(connection, tunnel.id, author.at)
    change = Change(author.actor, "delete", "tunnel", tunnel.id, tunnel.account_id)
    seq = record_change(connection, change, None, _keys(hostnames), author.at)
    return store.get_tunnel(connection, tunnel.account_id, tunnel.id), seq


def configure(
    connection: Connection, author: Author, tunnel: Tunnel, body: ConfigurationBody, files: Mapping[str, str]
) -> tuple[Configuration, int | None]:
    """Put `body` in the place of the tunnel's configuration. `files`: the text of each `caPool` path.

    ForegateError(INVALID_INPUT) where another tunnel serves one of its hosts, or another account holds a part of one.
    Hosts it no longer names lose their origin; the seq is that of the last record.
    """
    routing = read_configuration(body, files)
    foreign = find_foreign_host(connection, routing.hostnames, tunnel.account_id)
    if foreign is not None:
        message = f"{foreign} is covered by another account already, whole or in part; choose another host."
        raise invalid(message, pointer="/config/ingress")
    owner = store.owner_of_any(connection, routing.hostnames, tunnel.id)
    if owner is not None:
        hostname, other = owner
        message = f"{hostname} is served by the tunnel {other.name!r} already; take it out there first."
        raise invalid(message, pointer="/config/ingress")
    before = store.find_configuration(connection, tunnel.id)
    version = (before.version if before else 0) + 1
    configuration = Configuration(given_configuration(body), dict(files), version, author.at)
    hostnames = store.hostnames_of(connection, tunnel.id) | set(routing.hostnames)
    store.put_configuration(connection, tunnel.id, configuration)
    store.replace_hostnames(connection, tunnel.id, tunnel.account_id, routing.hostnames)
    change = Change(author.actor, "configure", "tunnel", tunnel.id, tunnel.account_id)
    snapshot = {**tunnel_view(tunnel), "version": version, "config": configuration.given}
    return configuration, record_change(connection, change, snapshot, _keys(hostnames), author.at)


def _require_free(connection: Connection, account_id: str, name: str) -> None:
    if store.has_name(connection, account_id, name):
        raise ForegateError(ErrorCode.ALREADY_EXISTS, "choose another name, or delete that tunnel.", pointer="/name")


def _keys(hostnames: frozenset[str]) -> list[str]:
    return [f"ingress/{hostname}" for hostname in sorted(hostnames)]

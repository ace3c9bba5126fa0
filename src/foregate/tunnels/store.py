"""Tunnels, their configurations and the hosts they serve in the records database. The only SQL about those."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, select, update

from foregate.core.clock import from_micros, to_micros
from foregate.core.errors import not_found
from foregate.database.records_schema import ingress_hostnames, tunnel_configurations, tunnels
from foregate.tunnels.model import Configuration, Tunnel


@dataclass(frozen=True, slots=True)
class Filter:
    """Which tunnels of a list are wanted; None: all."""

    name: str | None = None
    tunnel_id: str | None = None
    is_deleted: bool | None = None
    existed_at: datetime | None = None
    include_prefix: str | None = None
    exclude_prefix: str | None = None


def insert_tunnel(connection: Connection, tunnel: Tunnel) -> None:
    """A new tunnel without a configuration."""
    connection.execute(
        insert(tunnels),
        {
            "id": tunnel.id,
            "account_id": tunnel.account_id,
            "name": tunnel.name,
            "config_src": "cloudflare",
            "metadata": "{}",
            "created_at": to_micros(tunnel.created_at),
            "deleted_at": None,
        },
    )


def rename_tunnel(connection: Connection, tunnel_id: str, name: str) -> None:
    """Another name."""
    connection.execute(update(tunnels).where(tunnels.c.id == tunnel_id).values(name=name))


def delete_tunnel(connection: Connection, tunnel_id: str, now: datetime) -> None:
    """Mark a tunnel as deleted and give its hosts free."""
    connection.execute(update(tunnels).where(tunnels.c.id == tunnel_id).values(deleted_at=to_micros(now)))
    replace_hostnames(connection, tunnel_id, "", [])


def get_tunnel(connection: Connection, account_id: str, tunnel_id: str, *, is_live: bool = False) -> Tunnel:
    """A tunnel, `is_live` only if not deleted. ForegateError(NOT_FOUND) where the account has none with this id."""
    row = connection.execute(
        select(tunnels).where(tunnels.c.account_id == account_id, tunnels.c.id == tunnel_id)
    ).one_or_none()
    if row is None or (is_live and row.deleted_at is not None):
        raise not_found("tunnel")
    return _read_row(row)


def has_name(connection: Connection, account_id: str, name: str) -> bool:
    """Whether a tunnel that is not deleted has this name."""
    mine = (tunnels.c.account_id == account_id) & (tunnels.c.name == name) & tunnels.c.deleted_at.is_(None)
    return connection.execute(select(tunnels.c.id).where(mine)).first() is not None


def page_of_tunnels(
    connection: Connection, account_id: str, wanted: Filter, *, limit: int, offset: int
) -> tuple[list[Tunnel], int]:
    """A page of the account's tunnels, oldest first, and how many there are."""
    where = and_(tunnels.c.account_id == account_id, *_matches(wanted))
    rows = connection.execute(
        select(tunnels).where(where).order_by(tunnels.c.created_at, tunnels.c.id).limit(limit).offset(offset)
    ).all()
    total = connection.execute(select(func.count()).select_from(tunnels).where(where)).scalar_one()
    return [_read_row(row) for row in rows], total


def put_configuration(connection: Connection, tunnel_id: str, configuration: Configuration) -> None:
    """Put a configuration in the place of the one before."""
    stored = json.dumps({"given": configuration.given, "ca_pools": configuration.ca_pools})
    values = {"version": configuration.version, "config": stored, "created_at": to_micros(configuration.created_at)}
    mine = tunnel_configurations.c.tunnel_id == tunnel_id
    if connection.execute(update(tunnel_configurations).where(mine).values(**values)).rowcount == 0:
        connection.execute(insert(tunnel_configurations), {"tunnel_id": tunnel_id, **values})


def find_configuration(connection: Connection, tunnel_id: str) -> Configuration | None:
    """The tunnel's configuration, None before the first."""
    row = connection.execute(
        select(tunnel_configurations).where(tunnel_configurations.c.tunnel_id == tunnel_id)
    ).one_or_none()
    if row is None:
        return None
    stored = json.loads(row.config)
    return Configuration(stored["given"], stored.get("ca_pools") or {}, row.version, from_micros(row.created_at))


def hostnames_of(connection: Connection, tunnel_id: str) -> frozenset[str]:
    """The hosts that a tunnel serves."""
    rows = connection.execute(select(ingress_hostnames.c.hostname).where(ingress_hostnames.c.tunnel_id == tunnel_id))
    return frozenset(row.hostname for row in rows)


def replace_hostnames(connection: Connection, tunnel_id: str, account_id: str, hostnames: Iterable[str]) -> None:
    """Make `hostnames` all that the tunnel serves. None may be another tunnel's (`owner_of_any`)."""
    connection.execute(delete(ingress_hostnames).where(ingress_hostnames.c.tunnel_id == tunnel_id))
    rows = [{"hostname": one, "tunnel_id": tunnel_id, "account_id": account_id} for one in hostnames]
    if rows:
        connection.execute(insert(ingress_hostnames), rows)


def owner_of_any(connection: Connection, hostnames: Iterable[str], tunnel_id: str) -> tuple[str, Tunnel] | None:
    """One of `hostnames` that another tunnel serves, of any account, and that tunnel."""
    row = connection.execute(
        select(ingress_hostnames.c.hostname, tunnels)
        .join(tunnels, tunnels.c.id == ingress_hostnames.c.tunnel_id)
        .where(ingress_hostnames.c.hostname.in_(list(hostnames)), ingress_hostnames.c.tunnel_id != tunnel_id)
        .limit(1)
    ).one_or_none()
    return None if row is None else (row.hostname, _read_row(row))


def tunnel_of_host(connection: Connection, hostname: str) -> Tunnel | None:
    """The tunnel that serves a host, or None."""
    row = connection.execute(
        select(tunnels)
        .join(ingress_hostnames, ingress_hostnames.c.tunnel_id == tunnels.c.id)
        .where(ingress_hostnames.c.hostname == hostname)
    ).one_or_none()
    return None if row is None else _read_row(row)


def _matches(wanted: Filter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.name is not None:
        conditions.append(tunnels.c.name == wanted.name)
    if wanted.tunnel_id is not None:
        conditions.append(tunnels.c.id == wanted.tunnel_id)
    if wanted.is_deleted is not None:
        conditions.append(tunnels.c.deleted_at.is_not(None) if wanted.is_deleted else tunnels.c.deleted_at.is_(None))
    if wanted.existed_at is not None:
        at = to_micros(wanted.existed_at)
        conditions.append(tunnels.c.created_at <= at)
        conditions.append(tunnels.c.deleted_at.is_(None) | (tunnels.c.deleted_at > at))
    if wanted.include_prefix:
        conditions.append(tunnels.c.name.startswith(wanted.include_prefix, autoescape=True))
    if wanted.exclude_prefix:
        conditions.append(~tunnels.c.name.startswith(wanted.exclude_prefix, autoescape=True))
    return conditions


def _read_row(row: Row[tuple[object, ...]]) -> Tunnel:
    return Tunnel(
        id=row.id,
        account_id=row.account_id,
        name=row.name,
        created_at=from_micros(row.created_at),
        deleted_at=None if row.deleted_at is None else from_micros(row.deleted_at),
    )

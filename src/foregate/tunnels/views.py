"""Tunnels and configurations as answers show them (the SDK's CloudflareTunnel). Pure."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from foregate.core.clock import format_time
from foregate.tunnels.model import Configuration, Tunnel

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class TunnelView(TypedDict):
    """A tunnel. No connector ever connects, as the edge reaches origins itself: `connections` is empty."""

    id: str
    account_tag: str
    name: str
    tun_type: str
    config_src: str
    remote_config: bool
    status: str
    connections: list[dict[str, Any]]
    conns_active_at: None
    conns_inactive_at: None
    metadata: dict[str, Any]
    created_at: Moment
    deleted_at: Moment | None


class ConfigurationView(TypedDict):
    """A tunnel's configuration as it was written. `version` grows with each write, 0 before the first."""

    tunnel_id: str
    account_id: str
    version: int
    config: dict[str, Any]
    source: str
    created_at: Moment


def tunnel_view(tunnel: Tunnel) -> dict[str, Any]:
    """A TunnelView."""
    return {
        "id": tunnel.id,
        "account_tag": tunnel.account_id,
        "name": tunnel.name,
        "tun_type": "cfd_tunnel",
        "config_src": "cloudflare",
        "remote_config": True,
        # Cloudflare's word for a tunnel that no cloudflared has connected to.
        "status": "inactive",
        "connections": [],
        "conns_active_at": None,
        "conns_inactive_at": None,
        "metadata": {},
        "created_at": format_time(tunnel.created_at),
        "deleted_at": None if tunnel.deleted_at is None else format_time(tunnel.deleted_at),
    }


def configuration_view(tunnel: Tunnel, configuration: Configuration | None) -> dict[str, Any]:
    """A ConfigurationView."""
    return {
        "tunnel_id": tunnel.id,
        "account_id": tunnel.account_id,
        "version": configuration.version if configuration else 0,
        "config": configuration.given if configuration else {"ingress": []},
        "source": "cloudflare",
        "created_at": format_time(configuration.created_at if configuration else tunnel.created_at),
    }

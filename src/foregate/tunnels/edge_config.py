"""From a host's place in a tunnel's configuration to its edge record."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from foregate.edge.wire import IngressValue
from foregate.tunnels.bodies import ConfigurationBody
from foregate.tunnels.model import Configuration
from foregate.tunnels.rules import read_configuration, rules_for
from foregate.tunnels.store import find_configuration, tunnel_of_host


def compile_record(connection: Connection, name: str) -> dict[str, Any] | None:
    """The value of `ingress/<hostname>` as it is now; None for a host that no tunnel serves."""
    tunnel = tunnel_of_host(connection, name)
    configuration = None if tunnel is None else find_configuration(connection, tunnel.id)
    if tunnel is None or configuration is None:
        return None
    return ingress_value(tunnel.account_id, configuration, name).to_wire()


def ingress_value(account_id: str, configuration: Configuration, hostname: str) -> IngressValue:
    """The record's value for one host of a stored configuration. Pure."""
    body = ConfigurationBody.model_validate(configuration.given)
    routing = read_configuration(body, configuration.ca_pools)
    return IngressValue(account_id, hostname, rules_for(routing, hostname))

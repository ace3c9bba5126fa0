"""Tunnels and their ingress as values. A tunnel here is a named list of rules: the edge itself connects to origins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from foregate.edge.wire import IngressRule


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A tunnel. A deleted one stays as a row, as lists may ask for it."""

    id: str
    account_id: str
    name: str
    created_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class HostRule:
    """One rule of a tunnel for a host. `hostname` canonical, `*.` in front for all names one label below."""

    hostname: str
    rule: IngressRule


@dataclass(frozen=True, slots=True)
class Configuration:
    """A tunnel's configuration: `given` as the client wrote it, without nulls.

    `ca_pools` holds the PEM text for each `caPool` path in it, as read when it was written.
    """

    given: dict[str, Any]
    ca_pools: dict[str, str]
    version: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Routing:
    """What a configuration comes to: rules for hosts in order, and the rule for all that none of them takes."""

    rules: tuple[HostRule, ...]
    catch_all: IngressRule

    @property
    def hostnames(self) -> tuple[str, ...]:
        """The hosts that are named, each once."""
        return tuple(dict.fromkeys(one.hostname for one in self.rules))


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes, and when."""

    actor: str
    at: datetime

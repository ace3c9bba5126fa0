"""Values that a decision is made from and made of: a request as it reached the edge, and what the edge knows.

Nothing here decides, reads or writes. `rules.decide` judges these; the records are the very ones that edges are sent
(`edge/wire.py`), so that the reference and HAProxy cannot differ in what they were told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from foregate.core.decision import Reason
from foregate.edge.wire import AccountValue, AppValue, IngressValue, TokenValue

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Octets stand as characters below 256 (Latin-1), so that nothing is lost or guessed.

    `target` is the request line's, or HTTP/2's `:path`; `headers` the lines in order, doubled ones included, with
    HTTP/2's `:authority` as `host`. `address` is the client's, from the connection or a trusted proxy.
    """

    target: str
    headers: tuple[Header, ...]
    address: IPv4Address | IPv6Address
    method: str = "GET"

    def values(self, name: str) -> tuple[str, ...]:
        """The values of all lines of `name` (any case), without blanks around them (RFC 9110 5.5)."""
        return tuple(value.strip(" \t") for header, value in self.headers if header.lower() == name)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a well-formed request goes: normal host, normal path, and the query with its `?`, untouched, or empty."""

    host: str
    path: str
    query: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """A client id and a secret as presented; neither is checked yet."""

    client_id: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Denied:
    """An expected refusal, as a value."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What an edge has been told: applications by id, ingress by host name, accounts by id, tokens by client id,
    peppers by version."""

    apps: Mapping[str, AppValue]
    ingress: Mapping[str, IngressValue]
    accounts: Mapping[str, AccountValue]
    tokens: Mapping[str, TokenValue]
    peppers: Mapping[int, bytes] = field(repr=False)

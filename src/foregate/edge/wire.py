"""The values of edge records, by kind, and their form on the wire: what the control plane compiles for the edges.

`edge/parsing.py` reads them back. Both know nothing of SQL, HTTP or engines.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SecretVersion:
    """One live secret of a token: `digest` is 64 lower-case hex; `expires_at` Unix seconds, None while current."""

    version: int
    digest: str
    pepper_version: int
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class TokenValue:
    """`token/<client_id>`: one or two secret versions, the current one first. `expires_at` Unix seconds or None."""

    token_id: str
    account_id: str
    is_enabled: bool
    expires_at: int | None
    secrets: tuple[SecretVersion, ...]

    def to_wire(self) -> dict[str, Any]:
        """The record's value."""
        return {
            "token_id": self.token_id,
            "account_id": self.account_id,
            "enabled": self.is_enabled,
            "expires_at": self.expires_at,
            "secrets": [
                {"version": s.version, "digest": s.digest, "pepper": s.pepper_version, "expires_at": s.expires_at}
                for s in self.secrets
            ],
        }


@dataclass(frozen=True, slots=True)
class Rule:
    """What a policy or a group asks for: any of `include`, all of `require`, none of `exclude`."""

    include: tuple[Selector, ...]
    require: tuple[Selector, ...] = ()
    exclude: tuple[Selector, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenSelector:
    """The request carries a valid token of this client id."""

    client_id: str


@dataclass(frozen=True, slots=True)
class AnyTokenSelector:
    """The request carries a valid token of the application's account."""


@dataclass(frozen=True, slots=True)
class EveryoneSelector:
    """Holds always."""


@dataclass(frozen=True, slots=True)
class IpSelector:
    """The client's address lies in `network`, a CIDR in canonical form."""

    network: str


@dataclass(frozen=True, slots=True)
class GroupSelector:
    """The group's own rule holds (groups may hold groups; the compiler refuses cycles)."""

    rule: Rule


Selector = TokenSelector | AnyTokenSelector | EveryoneSelector | IpSelector | GroupSelector


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """One policy of an application. `decision`: non_identity, bypass or deny. `session_seconds` is resolved."""

    policy_id: str
    decision: str
    session_seconds: int
    rule: Rule


@dataclass(frozen=True, slots=True)
class AppValue:
    """`app/<id>`. `patterns`: `host/path` without scheme and port, lower-case host, no trailing slash unless bare
    (`echo.localhost`, `echo.localhost/admin`, `*.example.com`, `x.example.com/a/*/b`). `domain` is the one shown
    in `cf-access-domain`. `policies` in precedence order. `no_credentials_status`: 401 or 403.
    `token_header`: lower-case name of the single header that may carry the credentials, or empty."""

    account_id: str
    aud: str
    name: str
    domain: str
    patterns: tuple[str, ...]
    no_credentials_status: int
    token_header: str
    policies: tuple[PolicyValue, ...]

    def to_wire(self) -> dict[str, Any]:
        """The record's value."""
        return {
            "account_id": self.account_id,
            "aud": self.aud,
            "name": self.name,
            "domain": self.domain,
            "patterns": list(self.patterns),
            "no_credentials_status": self.no_credentials_status,
            "token_header": self.token_header,
            "policies": [
                {
                    "id": p.policy_id,
                    "decision": p.decision,
                    "session_seconds": p.session_seconds,
                    **_rule_to_wire(p.rule),
                }
                for p in self.policies
            ],
        }


@dataclass(frozen=True, slots=True)
class OriginSettings:
    """cloudflared's `originRequest`, defaults filled in. Times in seconds. `ca_pool` is PEM text or empty."""

    connect_timeout_seconds: float = 30
    tls_timeout_seconds: float = 10
    response_timeout_seconds: float = 100
    tcp_keep_alive_seconds: float = 30
    keep_alive_connections: int = 100
    keep_alive_timeout_seconds: float = 90
    http_host_header: str = ""
    origin_server_name: str = ""
    match_sni_to_host: bool = False
    no_tls_verify: bool = False
    http2_origin: bool = False
    ca_pool: str = ""


@dataclass(frozen=True, slots=True)
class IngressRule:
    """`path`: a regular expression searched in the path, or empty for any. `service`: `http://h:p`, `https://h:p`,
    `unix:/p`, `unix+tls:/p` or `http_status:NNN`."""

    path: str
    service: str
    origin: OriginSettings


@dataclass(frozen=True, slots=True)
class IngressValue:
    """`ingress/<hostname>` (`*.example.com` for a wildcard): rules in order, the first whose path fits is taken."""

    account_id: str
    hostname: str
    rules: tuple[IngressRule, ...]

    def to_wire(self) -> dict[str, Any]:
        """The record's value."""
        return {
            "account_id": self.account_id,
            "hostname": self.hostname,
            "rules": [
                {
                    "path": r.path,
                    "service": r.service,
                    "origin": {name: getattr(r.origin, name) for name in OriginSettings.__slots__},
                }
                for r in self.rules
            ],
        }


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One RS256 key: `jwk` the public JWK, `certificate` PEM, `private_key` PEM encrypted (`sealing.seal`, base64)."""

    kid: str
    jwk: dict[str, str]
    certificate: str
    private_key: str


@dataclass(frozen=True, slots=True)
class KeysValue:
    """`keys/<account>`: the current key first, then the previous one while it is still published."""

    keys: tuple[SigningKey, ...]

    def to_wire(self) -> dict[str, Any]:
        """The record's value."""
        return {
            "keys": [
                {"kid": k.kid, "jwk": k.jwk, "certificate": k.certificate, "private_key": k.private_key}
                for k in self.keys
            ]
        }


@dataclass(frozen=True, slots=True)
class AccountValue:
    """`account/<id>`: the organization's settings an edge needs. `auth_domain` is the issuer's host name."""

    auth_domain: str
    denies_unmatched_requests: bool
    exempted_hosts: tuple[str, ...]

    def to_wire(self) -> dict[str, Any]:
        """The record's value."""
        return {
            "auth_domain": self.auth_domain,
            "deny_unmatched_requests": self.denies_unmatched_requests,
            "exempted_hosts": list(self.exempted_hosts),
        }


@dataclass(frozen=True, slots=True)
class EdgeValue:
    """`edge/<id>`: what concerns one edge that joined. `sealed`: the edge's secrets, which it alone can open; empty
    once it is expelled, which is for good. The other edges pass it over."""

    name: str
    group: str
    is_expelled: bool
    sealed: bytes

    def to_wire(self) -> dict[str, Any]:
        """The record's value."""
        return {
            "name": self.name,
            "group": self.group,
            "expelled": self.is_expelled,
            "sealed": base64.b64encode(self.sealed).decode(),
        }


def _rule_to_wire(rule: Rule) -> dict[str, Any]:
    return {
        "include": [_selector_to_wire(s) for s in rule.include],
        "require": [_selector_to_wire(s) for s in rule.require],
        "exclude": [_selector_to_wire(s) for s in rule.exclude],
    }


def _selector_to_wire(selector: Selector) -> dict[str, Any]:
    match selector:
        case TokenSelector(client_id):
            return {"token": client_id}
        case AnyTokenSelector():
            return {"any_token": {}}
        case EveryoneSelector():
            return {"everyone": {}}
        case IpSelector(network):
            return {"ip": network}
        case GroupSelector(rule):
            return {"group": _rule_to_wire(rule)}

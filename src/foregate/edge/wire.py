"""The values of edge records, by kind: what the control plane compiles and what an edge parses.

Writers call `to_wire`, readers `parse_*`; both know nothing of SQL, HTTP or engines. Parsing is strict on what it
knows and ignores fields it does not know, as wire formats only grow. A bad value raises RecordRefused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from foregate.core.ids import ACCOUNT_ID, CLIENT_ID
from foregate.core.records import RecordRefused

_DIGEST = re.compile(r"[0-9a-f]{64}")


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


def parse_token(value: dict[str, Any]) -> TokenValue:
    """A `token/` record's value. Refuses an empty or malformed digest, no secret, or more than two."""
    secrets = tuple(_parse_secret_version(item) for item in _list(value, "secrets"))
    if not 1 <= len(secrets) <= 2:
        raise RecordRefused("a token has one or two live secrets")
    if len(secrets) == 2 and (secrets[0].version <= secrets[1].version or secrets[1].expires_at is None):
        raise RecordRefused("the second secret must be the older one and have an end")
    if secrets[0].expires_at is not None:
        raise RecordRefused("the current secret has no end of its own")
    return TokenValue(
        token_id=_text(value, "token_id"),
        account_id=_form(value, "account_id", ACCOUNT_ID),
        is_enabled=_bool(value, "enabled"),
        expires_at=_optional_int(value, "expires_at"),
        secrets=secrets,
    )


def parse_app(value: dict[str, Any]) -> AppValue:
    """An `app/` record's value."""
    patterns = tuple(_list(value, "patterns"))
    if not patterns or not all(isinstance(p, str) and p for p in patterns):
        raise RecordRefused("an application has at least one host pattern")
    status = _int(value, "no_credentials_status")
    if status not in (401, 403):
        raise RecordRefused("malformed no_credentials_status")
    return AppValue(
        account_id=_form(value, "account_id", ACCOUNT_ID),
        aud=_text(value, "aud"),
        name=_text(value, "name"),
        domain=_text(value, "domain"),
        patterns=patterns,
        no_credentials_status=status,
        token_header=_text(value, "token_header"),
        policies=tuple(_parse_policy(item) for item in _list(value, "policies")),
    )


def parse_ingress(value: dict[str, Any]) -> IngressValue:
    """An `ingress/` record's value."""
    return IngressValue(
        account_id=_form(value, "account_id", ACCOUNT_ID),
        hostname=_text(value, "hostname"),
        rules=tuple(
            IngressRule(_text(item, "path"), _text(item, "service"), _parse_origin(item))
            for item in _list(value, "rules")
            if _is_object(item)
        ),
    )


def parse_keys(value: dict[str, Any]) -> KeysValue:
    """A `keys/` record's value."""
    keys = tuple(
        SigningKey(_text(k, "kid"), dict(k.get("jwk") or {}), _text(k, "certificate"), _text(k, "private_key"))
        for k in _list(value, "keys")
        if _is_object(k)
    )
    if not keys:
        raise RecordRefused("an account has at least one signing key")
    return KeysValue(keys)


def parse_account(value: dict[str, Any]) -> AccountValue:
    """An `account/` record's value."""
    return AccountValue(
        auth_domain=_text(value, "auth_domain"),
        denies_unmatched_requests=_bool(value, "deny_unmatched_requests"),
        exempted_hosts=tuple(_list(value, "exempted_hosts")),
    )


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


def _parse_rule(value: dict[str, Any], depth: int = 0) -> Rule:
    if depth > 16:
        raise RecordRefused("groups are nested too deep")
    return Rule(
        include=tuple(_parse_selector(item, depth) for item in _list(value, "include")),
        require=tuple(_parse_selector(item, depth) for item in _list(value, "require")),
        exclude=tuple(_parse_selector(item, depth) for item in _list(value, "exclude")),
    )


def _parse_selector(item: object, depth: int) -> Selector:
    if not isinstance(item, dict) or len(item) != 1:
        raise RecordRefused("a selector has one key")
    match next(iter(item.items())):
        case "token", str(client_id) if CLIENT_ID.fullmatch(client_id):
            return TokenSelector(client_id)
        case "any_token", _:
            return AnyTokenSelector()
        case "everyone", _:
            return EveryoneSelector()
        case "ip", str(network) if network:
            return IpSelector(network)
        case "group", dict(rule):
            return GroupSelector(_parse_rule(rule, depth + 1))
        case _:
            raise RecordRefused("unknown or malformed selector")


def _parse_policy(item: object) -> PolicyValue:
    if not isinstance(item, dict):
        raise RecordRefused("a policy is an object")
    decision = _text(item, "decision")
    if decision not in ("non_identity", "bypass", "deny"):
        raise RecordRefused("unknown policy decision")
    return PolicyValue(_text(item, "id"), decision, _int(item, "session_seconds"), _parse_rule(item))


def _parse_origin(item: dict[str, Any]) -> OriginSettings:
    given = item.get("origin")
    if not isinstance(given, dict):
        raise RecordRefused("malformed origin settings")
    known = {name: given[name] for name in OriginSettings.__slots__ if name in given}
    for name, value in known.items():
        default = getattr(OriginSettings(), name)
        number = isinstance(default, int | float) and not isinstance(default, bool)
        right = (
            isinstance(value, int | float) and not isinstance(value, bool) if number else type(value) is type(default)
        )
        if not right:
            raise RecordRefused(f"malformed origin setting {name}")
    return OriginSettings(**known)


def _parse_secret_version(item: object) -> SecretVersion:
    if not isinstance(item, dict):
        raise RecordRefused("a secret version is an object")
    return SecretVersion(
        version=_int(item, "version"),
        digest=_form(item, "digest", _DIGEST),
        pepper_version=_int(item, "pepper"),
        expires_at=_optional_int(item, "expires_at"),
    )


def _is_object(item: object) -> bool:
    if not isinstance(item, dict):
        raise RecordRefused("malformed list item")
    return True


def _list(value: dict[str, Any], name: str) -> list[Any]:
    found = value.get(name)
    if not isinstance(found, list):
        raise RecordRefused(f"{name} is not a list")
    return found


def _text(value: dict[str, Any], name: str) -> str:
    found = value.get(name)
    if not isinstance(found, str):
        raise RecordRefused(f"{name} is not a text")
    return found


def _form(value: dict[str, Any], name: str, form: re.Pattern[str]) -> str:
    found = _text(value, name)
    if not form.fullmatch(found):
        raise RecordRefused(f"{name} is empty or malformed")
    return found


def _int(value: dict[str, Any], name: str) -> int:
    found = value.get(name)
    if not isinstance(found, int) or isinstance(found, bool):
        raise RecordRefused(f"{name} is not a whole number")
    return found


def _optional_int(value: dict[str, Any], name: str) -> int | None:
    return None if value.get(name) is None else _int(value, name)


def _bool(value: dict[str, Any], name: str) -> bool:
    found = value.get(name)
    if not isinstance(found, bool):
        raise RecordRefused(f"{name} is not true or false")
    return found

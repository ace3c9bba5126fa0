"""Edge values for tests, made with as few words as the case needs. Secrets here are made up on the spot."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from foregate.access.model import Knowledge, Request
from foregate.core.clock import to_unix
from foregate.edge.wire import (
    AccountValue,
    AnyTokenSelector,
    AppValue,
    EveryoneSelector,
    IngressRule,
    IngressValue,
    OriginSettings,
    PolicyValue,
    Rule,
    SecretVersion,
    Selector,
    TokenValue,
)

NOW = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
ACCOUNT = "a" * 32
OTHER_ACCOUNT = "b" * 32
PEPPERS = {1: bytes(range(32)), 2: bytes(range(32, 64))}
ANY_TOKEN = AnyTokenSelector()
EVERYONE = EveryoneSelector()


def client_id(number: int) -> str:
    """The client id of token `number`."""
    return f"{number:032x}.access"


def secret_of(number: int, version: int = 1) -> str:
    """A secret of the form that Foregate issues, without the meaning."""
    return f"cfast_{number:030d}{version:010d}" + "0" * 8


def digest_of(secret: str, pepper_version: int = 1) -> str:
    """64 hex digits."""
    return hmac.digest(PEPPERS[pepper_version], secret.encode("latin-1"), hashlib.sha256).hex()


def seconds_from_now(seconds: float) -> int:
    """Unix time relative to NOW."""
    return to_unix(NOW + timedelta(seconds=seconds))


def secret_version(number: int, version: int = 1, *, ends: int | None = None, pepper: int = 1) -> SecretVersion:
    """Version `version` of token `number`'s secret."""
    return SecretVersion(version, digest_of(secret_of(number, version), pepper), pepper, ends)


def token(
    number: int,
    *,
    account: str = ACCOUNT,
    is_enabled: bool = True,
    ends: int | None = None,
    secrets: tuple[SecretVersion, ...] | None = None,
) -> TokenValue:
    """Token `number`, with one current secret unless others are given."""
    versions = secrets or (secret_version(number),)
    return TokenValue(f"00000000-0000-4000-8000-{number:012x}", account, is_enabled, ends, versions)


def rule(*include: Selector, require: Iterable[Selector] = (), exclude: Iterable[Selector] = ()) -> Rule:
    """A rule, includes first."""
    return Rule(include, tuple(require), tuple(exclude))


def policy(name: str, decision: str, what: Rule | None = None, *, seconds: int = 86400) -> PolicyValue:
    """A policy; without a rule it includes everyone."""
    return PolicyValue(name, decision, seconds, what or rule(EVERYONE))


def app(
    *patterns: str, policies: Iterable[PolicyValue] = (), account: str = ACCOUNT, status: int = 403, header: str = ""
) -> AppValue:
    """An application over `patterns`."""
    return AppValue(account, "f" * 64, "app", patterns[0], patterns, status, header, tuple(policies))


def ingress(hostname: str, *, account: str = ACCOUNT, service: str = "http://127.0.0.1:9") -> IngressValue:
    """An ingress of one rule for any path."""
    return IngressValue(account, hostname, (IngressRule("", service, OriginSettings()),))


def account(*, denies: bool = True, exempted: tuple[str, ...] = (), auth_domain: str = "auth.test") -> AccountValue:
    """An organization."""
    return AccountValue(auth_domain, denies, exempted)


def knowledge(
    apps: dict[str, AppValue] | None = None,
    *,
    tokens: dict[int, TokenValue] | None = None,
    ingresses: Iterable[IngressValue] = (),
    accounts: dict[str, AccountValue] | None = None,
) -> Knowledge:
    """What an edge knows; tokens by number."""
    return Knowledge(
        apps or {},
        {value.hostname: value for value in ingresses},
        {ACCOUNT: account()} if accounts is None else accounts,
        {client_id(number): value for number, value in (tokens or {}).items()},
        PEPPERS,
    )


def request(
    target: str = "/",
    *headers: tuple[str, str],
    host: str | None = "app.test",
    address: str = "192.0.2.7",
    method: str = "GET",
) -> Request:
    """A request to `host` (None for no Host line)."""
    lines = headers if host is None else (("Host", host), *headers)
    return Request(target, tuple(lines), ip_address(address), method)


def json_of(number: int, version: int = 1) -> str:
    """The credentials of token `number` as one header's value."""
    return json.dumps({"cf-access-client-id": client_id(number), "cf-access-client-secret": secret_of(number, version)})


def pair(number: int, version: int = 1) -> tuple[tuple[str, str], tuple[str, str]]:
    """The standard headers of token `number`."""
    return (("CF-Access-Client-Id", client_id(number)), ("CF-Access-Client-Secret", secret_of(number, version)))

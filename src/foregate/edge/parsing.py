"""Edge records' values from the wire, by kind.

Strict on what it knows; ignores fields it does not know, as wire formats only grow. A bad value raises RecordRefused.
"""

from __future__ import annotations

import base64
import re
from typing import Any

from foregate.core.ids import ACCOUNT_ID, CLIENT_ID
from foregate.core.records import RecordRefused
from foregate.edge.wire import (
    AccountValue,
    AnyTokenSelector,
    AppValue,
    EdgeValue,
    EveryoneSelector,
    GroupSelector,
    IngressRule,
    IngressValue,
    IpSelector,
    KeysValue,
    OriginSettings,
    PolicyValue,
    Rule,
    SecretVersion,
    Selector,
    SigningKey,
    TokenSelector,
    TokenValue,
)

_DIGEST = re.compile(r"[0-9a-f]{64}")


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


def parse_edge(value: dict[str, Any]) -> EdgeValue:
    """An `edge/` record's value. Whether the box opens is for the edge alone to see."""
    is_expelled = _bool(value, "expelled")
    try:
        sealed = base64.b64decode(_text(value, "sealed"), validate=True)
    except ValueError:
        raise RecordRefused("malformed sealed") from None
    if not sealed and not is_expelled:
        raise RecordRefused("an edge has secrets")
    return EdgeValue(name=_text(value, "name"), group=_text(value, "group"), is_expelled=is_expelled, sealed=sealed)


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

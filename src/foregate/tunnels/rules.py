"""From a configuration as cloudflared writes it to rules for hosts. Pure.

Checked as cloudflared checks its own (its `ingress` package), and further where Foregate is narrower: only HTTP
services, only named hosts, one label for `*`. Source of names and defaults: cloudflared's configuration reference.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates

from foregate.core.errors import ForegateError, invalid, unsupported
from foregate.core.targets import covers_host, normalise_host, parse_pattern
from foregate.edge.wire import IngressRule, OriginSettings
from foregate.tunnels.bodies import ConfigurationBody, IngressRuleBody, OriginRequestBody
from foregate.tunnels.model import HostRule, Routing

# cloudflared's names for what the edge calls otherwise.
_SETTINGS = {
    "connectTimeout": "connect_timeout_seconds",
    "tlsTimeout": "tls_timeout_seconds",
    "tcpKeepAlive": "tcp_keep_alive_seconds",
    "keepAliveConnections": "keep_alive_connections",
    "keepAliveTimeout": "keep_alive_timeout_seconds",
    "matchSNItoHost": "match_sni_to_host",
    "noTLSVerify": "no_tls_verify",
    "http2Origin": "http2_origin",
}
_URL = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?(/.*)?")
_STATUS = re.compile(r"http_status:([2-5][0-9]{2})")
# 107 bytes is what a socket's address holds (unix(7)); the characters are those that need no quoting anywhere.
_SOCKET = re.compile(r"(unix(?:\+tls)?):(?://)?(/[A-Za-z0-9._/@+,=-]{1,106})")
_OTHER_SERVICES = re.compile(r"(tcp|ssh|rdp|smb|ws|wss|socks-proxy|bastion|hello_world|hello-world|helloworld)\b.*")
# What Go's regular expressions (RE2) do not have: so a path means the same at Cloudflare, and cannot run away.
_NOT_RE2 = re.compile(r"\(\?(?:[=!>#(&R+-]|<[=!]|P[=>])|\\[1-9]|\\g|\\k|[*+?}]\+")
_PATH_FORM = re.compile(r"[!-~]*")


def read_configuration(body: ConfigurationBody, ca_pools: Mapping[str, str]) -> Routing:
    """The rules in a configuration. `ca_pools` has the PEM text of each `caPool` path. Raises ForegateError."""
    if not body.ingress:
        raise invalid(
            'Give at least one ingress rule; the last one is {"service": "http_status:404"}.',
            pointer="/config/ingress",
        )
    common = _settings(OriginSettings(), body.originRequest, ca_pools, "/config/originRequest")
    rules: list[HostRule] = []
    for position, rule in enumerate(body.ingress):
        base = f"/config/ingress/{position}"
        is_last = position == len(body.ingress) - 1
        if _is_catch_all(rule, base) != is_last:
            raise _misplaced(is_last, base)
        settings = _settings(common, rule.originRequest, ca_pools, f"{base}/originRequest")
        read = IngressRule(_path(rule.path, f"{base}/path"), _service(rule.service, f"{base}/service"), settings)
        if not is_last:
            rules.append(HostRule(_hostname(rule.hostname or "", f"{base}/hostname"), read))
    if not read.service.startswith("http_status:"):
        raise unsupported(
            "The last rule stands for every other host, and Foregate serves named hosts only: use http_status:404.",
            pointer=f"{base}/service",
        )
    return Routing(tuple(rules), read)


def rules_for(routing: Routing, hostname: str) -> tuple[IngressRule, ...]:
    """The rules of one named host in order, up to the first that takes every path.

    A rule for `*.example.com` that stands above one for `a.example.com` goes first there too, as in cloudflared.
    """
    kept: list[IngressRule] = []
    for one in routing.rules:
        if one.hostname == hostname or ("*" not in hostname and covers_host(one.hostname, hostname)):
            kept.append(one.rule)
            if not one.rule.path:
                return tuple(kept)
    return (*kept, routing.catch_all)


def ca_pool_paths(body: ConfigurationBody) -> frozenset[str]:
    """The `caPool` members that name a file rather than hold PEM text."""
    requests = [body.originRequest, *(rule.originRequest for rule in body.ingress or [])]
    pools = {request.caPool for request in requests if request is not None and request.caPool}
    return frozenset(pool for pool in pools if not _is_pem(pool))


def given_configuration(body: ConfigurationBody) -> dict[str, Any]:
    """The configuration as the client wrote it, without nulls and read-only members, to be stored and given back."""
    given = body.model_dump(by_alias=True, exclude_none=True)
    for rule in given.get("ingress", []):
        rule.pop("id", None)
    return given


def _settings(
    base: OriginSettings, body: OriginRequestBody | None, ca_pools: Mapping[str, str], pointer: str
) -> OriginSettings:
    if body is None:
        return base
    changes: dict[str, Any] = {
        ours: getattr(body, theirs) for theirs, ours in _SETTINGS.items() if getattr(body, theirs) is not None
    }
    if body.httpHostHeader:
        changes["http_host_header"] = _authority(body.httpHostHeader, f"{pointer}/httpHostHeader")
    if body.originServerName:
        changes["origin_server_name"] = _name(body.originServerName, f"{pointer}/originServerName")
    if body.caPool:
        pem = body.caPool if _is_pem(body.caPool) else ca_pools[body.caPool]
        changes["ca_pool"] = _certificates(pem, f"{pointer}/caPool")
    return replace(base, **changes)


def _is_catch_all(rule: IngressRuleBody, base: str) -> bool:
    if rule.hostname not in (None, "", "*"):
        return False
    if rule.path:
        raise unsupported("Foregate serves named hosts only: give the rule a hostname.", pointer=f"{base}/hostname")
    return True


def _misplaced(is_last: bool, base: str) -> ForegateError:
    if is_last:
        return invalid(
            "The last ingress rule must match all URLs (i.e. it should not have a hostname or path filter).",
            pointer=base,
        )
    return invalid(
        "Only the last ingress rule may match all URLs; the rules after this one would never run.", pointer=base
    )


def _hostname(text: str, pointer: str) -> str:
    if ":" in text:
        raise invalid("A hostname has no scheme and no port.", pointer=pointer)
    pattern = parse_pattern(text, pointer=pointer)
    if pattern.path or "/" in text:
        raise invalid("A hostname has no path; give that as the rule's path.", pointer=pointer)
    if "*" in pattern.host.removeprefix("*.") or pattern.host.startswith("*.") != ("*" in pattern.host):
        raise invalid("A * may stand for the whole first label only, such as *.example.com.", pointer=pointer)
    return pattern.host


def _path(text: str | None, pointer: str) -> str:
    if not text:
        return ""
    if not _PATH_FORM.fullmatch(text):
        raise invalid("Write the path's expression in visible ASCII.", pointer=pointer)
    if _NOT_RE2.search(text):
        raise invalid(
            "The path's expression uses what Go's do not have (look-around, back references).", pointer=pointer
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            re.compile(text)
    except (re.error, RecursionError, OverflowError):
        raise invalid("The path is not a regular expression.", pointer=pointer) from None
    return text


def _service(text: str, pointer: str) -> str:
    if _STATUS.fullmatch(text):
        return text
    socket = _SOCKET.fullmatch(text)
    if socket is not None:
        return f"{socket[1]}:{socket[2]}"
    url = _URL.fullmatch(text)
    if url is not None:
        return _url(url, pointer)
    if _OTHER_SERVICES.fullmatch(text):
        raise unsupported(
            "Foregate carries HTTP: use http://, https://, unix:, unix+tls: or http_status:.", pointer=pointer
        )
    raise invalid(
        "Give the service as http://host:port, https://host:port, unix:/path, unix+tls:/path or http_status:404.",
        pointer=pointer,
    )


def _url(url: re.Match[str], pointer: str) -> str:
    scheme, host, port, path = url[1], url[2], url[3], url[4]
    if path:
        raise invalid("A service has no path: the origin gets the path of the request.", pointer=pointer)
    if normalise_host(host) is None:
        raise invalid("The service's host is not a host name or an address.", pointer=pointer)
    number = int(port) if port else {"http": 80, "https": 443}[scheme]
    if not 1 <= number <= 65535:
        raise invalid("The service's port must be 1 to 65535.", pointer=pointer)
    return f"{scheme}://{host.lower()}:{number}"


def _authority(text: str, pointer: str) -> str:
    if normalise_host(text) is None:
        raise invalid("Give a host, or host:port.", pointer=pointer)
    return text


def _name(text: str, pointer: str) -> str:
    if normalise_host(text) is None or ":" in text:
        raise invalid("Give a host name as it stands in the origin's certificate.", pointer=pointer)
    return text.lower()


def _certificates(pem: str, pointer: str) -> str:
    """The certificates in a PEM text and nothing else: a private key beside them stays where it is."""
    try:
        found = load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise invalid("The caPool must hold certificates in PEM form.", pointer=pointer) from None
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in found)


def _is_pem(text: str) -> bool:
    return "-----BEGIN CERTIFICATE-----" in text

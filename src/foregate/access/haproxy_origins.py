"""Ingress rules to HAProxy origins. Pure. The words are those of cloudflared's `originRequest`."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from foregate.edge.wire import IngressRule, IngressValue, OriginSettings
from foregate.engines.haproxy.config import FixedStatus, Origin, OriginRule, Server, Tls

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9a-fA-F:.]{2,45}")


class NotCompilable(Exception):
    """A record that HAProxy cannot be told. `key` is the record's; the text says why."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


def compile_origins(hostname: str, ingress: IngressValue) -> tuple[OriginRule, ...]:
    """The ingress's origins in order. NotCompilable for a service or a path expression that cannot be used."""
    return tuple(_rule(f"ingress/{hostname}", rule) for rule in ingress.rules)


def _rule(key: str, rule: IngressRule) -> OriginRule:
    try:
        re.compile(rule.path)
    except re.error as error:
        raise NotCompilable(key, "the path is no regular expression") from error
    if not re.fullmatch(r"[ -~]*", rule.path):
        raise NotCompilable(key, "the path must be ASCII")
    return OriginRule(rule.path, _origin(key, rule.service, rule.origin))


def _origin(key: str, service: str, settings: OriginSettings) -> Origin:
    scheme, _, rest = service.partition(":")
    match scheme:
        case "http_status" if re.fullmatch(r"[2-5][0-9][0-9]", rest):
            return FixedStatus(int(rest))
        case "unix" | "unix+tls" if re.fullmatch(r"/[!-~]{1,100}", rest):
            tls = _tls(settings, "localhost") if scheme == "unix+tls" else None
            return _server(rest, tls, settings)
        case "http" | "https":
            return _tcp(key, service, settings)
        case _:
            raise NotCompilable(key, "the service is of no kind that is known")


def _tcp(key: str, service: str, settings: OriginSettings) -> Origin:
    try:
        parts = urlsplit(service)
        host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]
    except ValueError as error:
        raise NotCompilable(key, "the service is no address") from error
    if not _HOST.fullmatch(host) or parts.path not in ("", "/") or parts.query or "@" in parts.netloc:
        raise NotCompilable(key, "the service must be scheme, host and port alone")
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return _server(address, _tls(settings, host) if parts.scheme == "https" else None, settings)


def _server(address: str, tls: Tls | None, settings: OriginSettings) -> Server:
    # HAProxy counts the TLS handshake as part of connecting.
    connect = settings.connect_timeout_seconds + (settings.tls_timeout_seconds if tls else 0)
    return Server(
        address=address,
        tls=tls,
        is_http2=settings.http2_origin,
        host_header=settings.http_host_header,
        connect_timeout_seconds=connect,
        response_timeout_seconds=settings.response_timeout_seconds,
        tcp_keep_alive_seconds=settings.tcp_keep_alive_seconds,
        idle_connections=settings.keep_alive_connections,
        idle_timeout_seconds=settings.keep_alive_timeout_seconds,
    )


def _tls(settings: OriginSettings, host: str) -> Tls:
    name = "" if settings.match_sni_to_host else settings.origin_server_name or host
    return Tls(server_name=name, ca=settings.ca_pool, is_verified=not settings.no_tls_verify)

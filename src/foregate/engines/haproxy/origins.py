"""A backend's origins as configuration lines: which server a path goes to, how it is reached, what it is told."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from foregate.engines.haproxy.answers import no_origin
from foregate.engines.haproxy.config import Backend, Config, FixedStatus, Server, Tls
from foregate.engines.haproxy.words import literal, quote

# Set where nothing is left to judge in the backend: the frontend did, from memory or from hot.map.
_DECIDED = "{ var(txn.words) -m found }"
# Set where a worker is started (`spawn.py`).
_SYSTEM_CAS = '"${FOREGATE_SYSTEM_CA}"'


def timeout_lines(backend: Backend) -> Iterator[str]:
    """How patient the backend is."""
    servers = [rule.origin for rule in backend.origins if isinstance(rule.origin, Server)]
    if any(server.is_http2 for server in servers):
        # Only HTTP/2 can have trailers after a body of known length, and HTTP/1.1 has no way to pass them on.
        yield "filter lua.foregate_trailers"
    if servers:
        # A backend has one of each: that of its most patient origin.
        yield f"timeout connect {_milliseconds(max(s.connect_timeout_seconds for s in servers))}"
        yield f"timeout server {_milliseconds(max(s.response_timeout_seconds for s in servers))}"
        keep_alive = max(s.tcp_keep_alive_seconds for s in servers)
        if keep_alive > 0:
            yield "option srvtcpka"
            yield f"srvtcpka-idle {max(1, round(keep_alive))}s"


def first_lines(backend: Backend) -> Iterator[str]:
    """What stands first in a backend, for remembered requests too, which end here."""
    if _has_choice(backend):
        for number, rule in enumerate(backend.origins):
            fits = f" {{ path -m reg {quote(rule.pattern)} }}" if rule.pattern else ""
            yield f"http-request set-var(txn.origin) str({number}) if !{{ var(txn.origin) -m found }}{fits}"
    for number, rule in enumerate(backend.origins):
        if isinstance(rule.origin, Server) and rule.origin.host_header:
            condition = _if(_chosen(backend, number))
            yield f"http-request set-header Host {quote(literal(rule.origin.host_header))}{condition}"
    yield from _answers(backend, _DECIDED)
    yield f"http-request allow if {_DECIDED}"


def last_lines(backend: Backend) -> Iterator[str]:
    """What stands last: what an allowed request meets where no server is asked, and the servers."""
    yield from _answers(backend, "")
    for number, rule in enumerate(backend.origins):
        if isinstance(rule.origin, Server):
            if _has_choice(backend):
                yield f"use-server s{number} if {_chosen(backend, number)}"
            yield _server_line(number, rule.origin)


def ca_files(config: Config) -> Mapping[str, str]:
    """The CAs that origins are verified against, as files by name."""
    origins = (rule.origin for backend in config.backends for rule in backend.origins)
    pools = {o.tls.ca for o in origins if isinstance(o, Server) and o.tls and o.tls.ca}
    return {_ca_name(pool): pool for pool in pools}


def _answers(backend: Backend, condition: str) -> Iterator[str]:
    """The answers given instead of asking a server."""
    for number, rule in enumerate(backend.origins):
        if isinstance(rule.origin, FixedStatus):
            when = _if(condition, _chosen(backend, number))
            yield f"http-request return status {rule.origin.status} hdr Cache-Control no-store{when}"
    if all(rule.pattern for rule in backend.origins):
        nowhere = "!{ var(txn.origin) -m found }" if backend.origins else ""
        text = quote(no_origin("No ingress rule leads from this address to an origin."))
        yield f"http-request return status 502 content-type application/json lf-string {text}{_if(condition, nowhere)}"


def _has_choice(backend: Backend) -> bool:
    return len(backend.origins) > 1 or any(rule.pattern for rule in backend.origins)


def _chosen(backend: Backend, number: int) -> str:
    return f"{{ var(txn.origin) -m str {number} }}" if _has_choice(backend) else ""


def _if(*conditions: str) -> str:
    given = " ".join(condition for condition in conditions if condition)
    return f" if {given}" if given else ""


def _server_line(number: int, server: Server) -> str:
    address = f"unix@{server.address}" if server.address.startswith("/") else server.address
    words = [f"server s{number}", quote(address)]
    if not server.address.startswith(("/", "[")) and not _is_number(server.address):
        # A name that does not resolve yet must not keep everything else from starting; it is asked for again and again.
        words.append("init-addr last,libc,none")
        if not _is_local_name(server.address):
            words.append("resolvers system")
    words.append(f"pool-max-conn {server.idle_connections}")
    words.append(f"pool-purge-delay {_milliseconds(server.idle_timeout_seconds)}")
    if server.tls is not None:
        words += [_tls_words(server.tls), "alpn h2,http/1.1" if server.is_http2 else "alpn http/1.1"]
    elif server.is_http2:
        words.append("proto h2")
    return " ".join(words)


def needs_resolver(config: Config) -> bool:
    """Whether some origin is a name that has to be resolved while the worker runs."""
    return any(
        "resolvers system" in _server_line(0, rule.origin)
        for backend in config.backends
        for rule in backend.origins
        if isinstance(rule.origin, Server)
    )


def _tls_words(tls: Tls) -> str:
    name = f"str({tls.server_name})" if tls.server_name else "req.fhdr(host),host_only,lower"
    words = ["ssl", "sni", quote(name)]
    if tls.is_verified:
        words += ["verify required", "ca-file", _ca_name(tls.ca) if tls.ca else _SYSTEM_CAS]
    else:
        words.append("verify none")
    return " ".join(words)


def _ca_name(pool: str) -> str:
    return f"ca-{hashlib.sha256(pool.encode()).hexdigest()[:16]}.pem"


def _is_number(address: str) -> bool:
    return all(character in "0123456789.:" for character in address)


def _is_local_name(address: str) -> bool:
    host = address.rpartition(":")[0]
    return host == "localhost" or host.endswith(".localhost")


def _milliseconds(seconds: float) -> str:
    # Zero would be no bound at all to HAProxy; its timers hold 24 days.
    return f"{min(max(1, round(seconds * 1000)), 2_000_000_000)}ms"

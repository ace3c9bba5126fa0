"""What a HAProxy worker is told, in HAProxy's own words: binds, routes, backends, checks. Frozen values, no I/O.

`access/haproxy.py` compiles edge records into a `Config`, `render.py` turns it into files, `process.py` runs it.
Nothing here knows a record, a policy's precedence or a database. Texts that reach a configuration line are checked by
`render.py`; whatever does not have the form of an id, a host or a network is refused there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Bind:
    """An address to listen on: `127.0.0.1:8480`, `[::1]:8443`."""

    address: str
    is_tls: bool = False


@dataclass(frozen=True, slots=True)
class Files:
    """Where a worker finds what it reads and writes; all paths absolute.

    `folder`: rendered files go here. `maps`: holds `base.map`, `overlay.map` and `hot.map`, which must exist when a
    worker starts (`maps.py`). `certificates`: a folder of PEM files (key and chain in one), or one such file; needed
    for TLS binds. `agent_socket`: where the assertion agent listens; the worker's user must be able to connect to it.
    `serving_socket`: where the worker that serves takes requests that its predecessors have not judged, the same path
    for all workers; `serving_tls_socket`: the same for what came to them over TLS.
    """

    folder: Path
    maps: Path
    certificates: Path
    agent_socket: Path
    serving_socket: Path
    serving_tls_socket: Path


@dataclass(frozen=True, slots=True)
class Settings:
    """What the machine's owner decides.

    `trusted_proxies`: networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed. `proxy_protocol_from`:
    networks that must speak the PROXY protocol. `pepper_versions`: all that live secrets may be digested under, the
    one of new secrets first. `user` and `group`: what a worker started as root becomes; empty to stay.
    """

    files: Files
    binds: tuple[Bind, ...]
    pepper_versions: tuple[int, ...] = (1,)
    threads: int = 1
    max_connections: int = 10_000
    user: str = ""
    group: str = ""
    trusted_proxies: tuple[str, ...] = ()
    proxy_protocol_from: tuple[str, ...] = ()


class Kind(StrEnum):
    """What a route leads to: an application, a host without one that is let through, the edge's own paths, nothing."""

    APPLICATION = "a"
    OPEN = "u"
    EDGE = "e"
    NOTHING = "n"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes. `app_name`: of the `Backend`, empty for EDGE and NOTHING; `app_key` as in `Application`.

    `ingress_name`: the second half of the backend's name, also where an expression puts another application in.
    `is_steady`: what the application's policies say of an authenticated token depends on the token alone (no
    addresses) and nothing is a rival of the route, so the outcome may be remembered. `is_sole`: the host has no
    other route but the edge's own paths, so a connection that stays on the host stays on the route. `needs_token`:
    without credentials no policy can hold, and the answer is no_credentials with `no_credentials_status`.
    `token_header`: the single header that may carry the credentials, or empty. `rank`: its place among all
    patterns, the least of those that match wins; only compared where `has_rivals`: an expression may match a
    request that this route fits.
    """

    kind: Kind
    app_name: str = ""
    ingress_name: str = ""
    app_key: str = ""
    account_id: str = ""
    is_steady: bool = False
    is_sole: bool = False
    needs_token: bool = False
    no_credentials_status: int = 403
    token_header: str = ""
    rank: int = 0
    has_rivals: bool = False


@dataclass(frozen=True, slots=True)
class PrefixRoute:
    """A route for `host` (exact, or `*.rest` for every host with one more label before `rest`) and for `path` and
    what lies below it. `path` has no trailing slash; empty is the whole host. The longest path that fits is taken."""

    host: str
    path: str
    route: Route


@dataclass(frozen=True, slots=True)
class RegexRoute:
    """A route for host and path (one text) that match `expression` (PCRE, anchored at both ends here). The first that
    matches is taken; its `ingress_name` is that of the prefix route of the host."""

    expression: str
    route: Route


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Holds for a request whose credentials were verified."""


@dataclass(frozen=True, slots=True)
class ClientIn:
    """Holds for a verified client id out of these."""

    client_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SourceIn:
    """Holds for a client address in one of these networks (CIDR)."""

    networks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Always:
    """Holds."""


@dataclass(frozen=True, slots=True)
class Holds:
    """Holds where check number `index` of the same backend, an earlier one, holds."""

    index: int


Term = Authenticated | ClientIn | SourceIn | Always | Holds


@dataclass(frozen=True, slots=True)
class Check:
    """Any of `include`, all of `require`, none of `exclude`."""

    include: tuple[Term, ...]
    require: tuple[Term, ...] = ()
    exclude: tuple[Term, ...] = ()


class Action(StrEnum):
    """What a step does where its check holds. SERVICE_AUTH asks for verified credentials besides."""

    BYPASS = "bypass"
    SERVICE_AUTH = "service_auth"
    DENY = "policy_denied"


@dataclass(frozen=True, slots=True)
class Step:
    """One policy: check number `check`, and what follows. Steps are tried in order, the first that holds ends them."""

    check: int
    action: Action
    policy_id: str
    session_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Application:
    """What a backend needs to know of its application. `checks` may refer to earlier ones by `Holds`. `app_key`:
    the app id, a dot, and a mark that changes with whatever of the application a remembered outcome depends on."""

    app_id: str
    app_key: str
    account_id: str
    aud: str
    domain: str
    no_credentials_status: int
    token_header: str
    is_steady: bool
    checks: tuple[Check, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to an origin. `server_name`: sent as SNI and verified; empty: the request's host. `ca`: PEM text, empty for
    the system's. `is_verified` False accepts any certificate."""

    server_name: str
    ca: str = ""
    is_verified: bool = True


@dataclass(frozen=True, slots=True)
class Server:
    """An origin that is asked. `address`: `host:port` or an absolute path of a unix socket. Times in seconds."""

    address: str
    tls: Tls | None = None
    is_http2: bool = False
    host_header: str = ""
    connect_timeout_seconds: float = 30
    response_timeout_seconds: float = 100
    tcp_keep_alive_seconds: float = 30
    idle_connections: int = 100
    idle_timeout_seconds: float = 90


@dataclass(frozen=True, slots=True)
class FixedStatus:
    """An origin that answers this status and nothing else."""

    status: int


Origin = Server | FixedStatus


@dataclass(frozen=True, slots=True)
class OriginRule:
    """The origin of requests whose path `pattern` (PCRE, searched in the path; empty for any) is found in."""

    pattern: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Backend:
    """One application (None: a host without one) in front of the origins of one ingress. Of `origins` the first whose
    pattern fits is taken; none: 502."""

    app_name: str
    ingress_name: str
    account_id: str
    application: Application | None
    origins: tuple[OriginRule, ...]


@dataclass(frozen=True, slots=True)
class Account:
    """An account's public signing keys: the JSON that `/cdn-cgi/access/certs` answers."""

    account_id: str
    jwks: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a worker is told at its start. Tokens are not in it: they live in maps (`maps.py`)."""

    settings: Settings
    prefixes: tuple[PrefixRoute, ...]
    expressions: tuple[RegexRoute, ...]
    backends: tuple[Backend, ...]
    accounts: tuple[Account, ...]

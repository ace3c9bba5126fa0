"""Routes as the maps that the configuration looks them up in, and the names by which routes and backends meet.

A route's name is a digest of all that is known of it, of one length, so that it is cut off without looking for where it
ends, and so that whatever is remembered under it (`maps.py`) is forgotten when its application changes. The route's
backend has the same name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from foregate.engines.haproxy.config import Application, Backend, Config, Kind, PrefixRoute, Route
from foregate.engines.haproxy.words import KEY, NAME, VALUE, checked

NAME_LENGTH = 17
# Name, a pipe, flags.
FLAGS_AT = NAME_LENGTH + 1


def backend_name(backend: Backend) -> str:
    """The name of the routes that lead to it."""
    app = backend.application
    return _name(_details(app.app_key if app else "", backend.account_id, _header(app), backend.ingress_name))


def route_files(config: Config) -> Mapping[str, str]:
    """`routes.map` and `expressions.map` lead to `name|flags|rank`, `details.map` from a name to the rest; `pairs.map`
    from an expression's route and the ingress of the host to the backend of both."""
    details = dict(_detail_lines(config))
    return {
        "routes.map": "".join(f"{_prefix_key(p)} {_prefix_value(p.route)}\n" for p in config.prefixes),
        "expressions.map": "".join(f"{checked(KEY, e.expression)} {_value(e.route, '')}\n" for e in config.expressions),
        "details.map": "".join(f"{name} {text}\n" for name, text in sorted(details.items())),
        "pairs.map": "".join(sorted(set(_pair_lines(config)))),
    }


def _prefix_key(prefix: PrefixRoute) -> str:
    """Host, path and a slash; a slash instead of `*.`, as no host that was let through has one."""
    host = f"/{prefix.host[2:]}" if prefix.host.startswith("*.") else prefix.host
    return f"{checked(KEY, host + prefix.path)}/"


def _prefix_value(route: Route) -> str:
    """The rank counts only beside an expression; left out elsewhere, so that a route stays what it is (it is part of
    the key of hot entries) when a pattern is added somewhere else."""
    return _value(route, route.ingress_name, has_rank=route.has_rivals)


def _value(route: Route, ingress_name: str, *, has_rank: bool = True) -> str:
    """`name|flags|rank`. The flags begin with the kind: `s` for an application that is steady. An expression's route
    knows no ingress."""
    kind = "s" if route.kind is Kind.APPLICATION and route.is_steady else route.kind.value
    marks = {
        "o": route.is_sole,
        "x": route.has_rivals,
        "t": bool(route.token_header),
        "c": route.needs_token,
        "C": route.no_credentials_status == 401,
    }
    flags = kind + "".join(mark for mark, holds in marks.items() if holds)
    name = _name(_details(route.app_key, route.account_id, route.token_header, ingress_name))
    return f"{name}|{flags}|{route.rank}" if has_rank else f"{name}|{flags}"


def _detail_lines(config: Config) -> Iterator[tuple[str, str]]:
    routes = [(prefix.route, prefix.route.ingress_name) for prefix in config.prefixes]
    routes += [(expression.route, "") for expression in config.expressions]
    for route, ingress_name in routes:
        text = _details(route.app_key, route.account_id, route.token_header, ingress_name)
        yield _name(text), text
    for backend in config.backends:
        app = backend.application
        text = _details(app.app_key if app else "", backend.account_id, _header(app), backend.ingress_name)
        yield _name(text), text


def _pair_lines(config: Config) -> Iterator[str]:
    if not config.expressions:
        return
    for backend in config.backends:
        app = backend.application
        if app is not None:
            alone = _name(_details(app.app_key, backend.account_id, app.token_header, ""))
            yield f"{alone}|{checked(NAME, backend.ingress_name)} {backend_name(backend)}\n"
    # The edge's own paths need no backend.
    for expression in config.expressions:
        if expression.route.kind is Kind.EDGE:
            alone = _name(_details("", expression.route.account_id, "", ""))
            for ingress_name in {prefix.route.ingress_name or "none" for prefix in config.prefixes} | {"none"}:
                yield f"{alone}|{checked(NAME, ingress_name)} {alone}\n"


def _details(app_key: str, account_id: str, token_header: str, ingress_name: str) -> str:
    """`account|app key|token header|ingress`."""
    return "|".join(checked(VALUE, part) for part in (account_id, app_key, token_header, ingress_name))


def _name(details: str) -> str:
    return "b" + hashlib.sha256(details.encode()).hexdigest()[: NAME_LENGTH - 1]


def _header(app: Application | None) -> str:
    return app.token_header if app else ""

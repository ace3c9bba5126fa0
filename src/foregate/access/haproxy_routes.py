"""Which host and path leads to which application and ingress, worked out beforehand as far as can be. Pure.

A host that a record names (exactly) gets one prefix route per path at which the winning pattern changes, so that one
look-up decides. Other hosts are looked up by `*.` and the rest after their first label. What is left for regular
expressions is patterns with a wildcard in the path or elsewhere in the host; they are tried only where they could win.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from foregate.access.haproxy_origins import NotCompilable
from foregate.access.haproxy_policies import needs_token
from foregate.access.rules import EDGE_PATHS
from foregate.core.errors import ForegateError
from foregate.core.targets import Pattern, covers_host, host_form, parse_pattern, path_form, specificity
from foregate.edge.wire import AccountValue, AppValue, IngressValue
from foregate.engines.haproxy.config import Application, Kind, PrefixRoute, RegexRoute, Route

_EDGE_PATH = EDGE_PATHS.removesuffix("/")


@dataclass(frozen=True, slots=True)
class Ranked:
    """A pattern, its application, and its place among all patterns: the least that matches wins."""

    pattern: Pattern
    app_id: str
    rank: int

    @property
    def is_literal_path(self) -> bool:
        """Whether its path has no wildcard."""
        return "*" not in self.pattern.path


@dataclass(frozen=True, slots=True)
class Routes:
    """What the configuration holds of them."""

    prefixes: tuple[PrefixRoute, ...]
    expressions: tuple[RegexRoute, ...]


class Places:
    """The records that routes are made from, by the ways they are asked for; collects the backends that are needed."""

    def __init__(
        self,
        apps: Mapping[str, AppValue],
        applications: Mapping[str, Application],
        ingresses: Mapping[str, IngressValue],
        accounts: Mapping[str, AccountValue],
    ) -> None:
        self.apps = apps
        self.applications = applications
        self.ingresses = ingresses
        self.accounts = accounts
        # (app id or '', ingress hostname or ''): each is a backend.
        self.pairs: set[tuple[str, str]] = set()
        self.patterns = _ranked(apps)
        self.exact: dict[str, list[Ranked]] = defaultdict(list)
        self.wild: list[Ranked] = []
        for ranked in self.patterns:
            (self.wild if "*" in ranked.pattern.host else self.exact[ranked.pattern.host]).append(ranked)

    @staticmethod
    def app_name(app_id: str) -> str:
        """The first half of a backend's name."""
        return app_id or "open"

    @staticmethod
    def ingress_name(hostname: str) -> str:
        """The second half; a colon can stand in no host name."""
        return hostname.replace("*", ":") or "none"

    def covering(self, host: str) -> list[Ranked]:
        """All patterns whose host covers an exact host, best first."""
        wild = [ranked for ranked in self.wild if covers_host(ranked.pattern.host, host)]
        return sorted([*self.exact.get(host, ()), *wild], key=lambda ranked: ranked.rank)

    def ingress_of(self, host: str) -> str:
        """The hostname of the ingress that serves an exact host, or ''."""
        if host in self.ingresses:
            return host
        class_name = f"*.{host.partition('.')[2]}"
        return class_name if class_name in self.ingresses else ""

    def route(self, ranked: Ranked, ingress: str) -> Route:
        """The route to an application through an ingress; notes the backend."""
        app, application = self.apps[ranked.app_id], self.applications[ranked.app_id]
        self.pairs.add((ranked.app_id, ingress))
        return Route(
            kind=Kind.APPLICATION,
            app_name=self.app_name(ranked.app_id),
            ingress_name=self.ingress_name(ingress),
            app_key=application.app_key,
            account_id=app.account_id,
            is_steady=application.is_steady,
            needs_token=needs_token(app),
            no_credentials_status=app.no_credentials_status,
            token_header=app.token_header,
            rank=ranked.rank,
        )

    def route_without_application(self, host: str, ingress: str) -> Route:
        """Where a request goes that no pattern covers. `host` is '' for all hosts that no record names."""
        name = self.ingress_name(ingress)
        value = self.ingresses.get(ingress)
        account = self.accounts.get(value.account_id) if value else None
        rank = len(self.patterns)
        if value is None or account is None:
            return Route(Kind.NOTHING, ingress_name=name, rank=rank)
        if account.denies_unmatched_requests and host not in account.exempted_hosts:
            return Route(Kind.NOTHING, ingress_name=name, account_id=value.account_id, rank=rank)
        self.pairs.add(("", ingress))
        return Route(Kind.OPEN, self.app_name(""), name, account_id=value.account_id, rank=rank)


def compile_routes(places: Places) -> Routes:
    """All routes. Also fills `places.pairs` with the backends that they lead to."""
    prefixes = [route for host in sorted(_named_hosts(places)) for route in _host_routes(places, host)]
    classes = sorted(_classes(places))
    prefixes += [route for name in classes for route in _class_routes(places, name)]
    return Routes(tuple(prefixes), tuple(_expressions(places)))


def _ranked(apps: Mapping[str, AppValue]) -> list[Ranked]:
    found = []
    for app_id, app in apps.items():
        for text in app.patterns:
            try:
                pattern = parse_pattern(text)
            except ForegateError as error:
                raise NotCompilable(f"app/{app_id}", error.message) from error
            found.append((specificity(pattern), app_id, pattern))
    found.sort(key=lambda item: item[:2])
    return [Ranked(pattern, app_id, rank) for rank, (_, app_id, pattern) in enumerate(found)]


def _named_hosts(places: Places) -> set[str]:
    hosts = set(places.exact) | {name for name in places.ingresses if "*" not in name}
    for account in places.accounts.values():
        hosts |= {account.auth_domain, *account.exempted_hosts}
    return {host.lower() for host in hosts if host and "*" not in host}


def _classes(places: Places) -> set[str]:
    """`*.rest` names: every host with one more label is looked up by them."""
    hosts = {ranked.pattern.host for ranked in places.wild} | set(places.ingresses)
    return {host for host in hosts if host.startswith("*.") and host.count("*") == 1}


def _host_routes(places: Places, host: str) -> Iterable[PrefixRoute]:
    """The routes of one exact host."""
    covering = places.covering(host)
    ingress = places.ingress_of(host)
    fallback = places.route_without_application(host, ingress)
    yield from _prefix_routes(places, host, covering, ingress, fallback)
    account_id = _edge_account(places, host, covering)
    if account_id is not None:
        yield PrefixRoute(host, _EDGE_PATH, Route(Kind.EDGE, account_id=account_id))


def _class_routes(places: Places, name: str) -> Iterable[PrefixRoute]:
    """The routes of the hosts that fit `*.rest` and that no record names."""
    own = [ranked for ranked in places.wild if ranked.pattern.host == name]
    ingress = name if name in places.ingresses else ""
    fallback = places.route_without_application("", ingress)
    # Other wildcards may cover some of these hosts; `*.rest` goes before them, so they matter where it has nothing.
    others = [ranked for ranked in places.wild if ranked.pattern.host != name and _may_meet(ranked.pattern.host, name)]
    yield from _prefix_routes(places, name, sorted([*own, *others], key=lambda r: r.rank), ingress, fallback)
    if own:
        account_id = places.apps[own[0].app_id].account_id
        yield PrefixRoute(name, _EDGE_PATH, Route(Kind.EDGE, account_id=account_id))


def _prefix_routes(
    places: Places, host: str, covering: list[Ranked], ingress: str, fallback: Route
) -> Iterable[PrefixRoute]:
    """One route per path at which the winner among literal patterns changes. `covering`: best first."""
    # For a class, patterns of other wildcard hosts cover some of its hosts only: left to the expressions.
    literal = [r for r in covering if r.is_literal_path and ("*" not in host or r.pattern.host == host)]
    rivals = [r for r in covering if r not in literal]
    paths = {"", *(ranked.pattern.path for ranked in literal)}
    paths = {path for path in paths if not _is_below(path, _EDGE_PATH)}
    for path in sorted(paths):
        winner = next((r for r in literal if _is_below(path, r.pattern.path)), None)
        route = places.route(winner, ingress) if winner else fallback
        has_rivals = any(rival.rank < route.rank for rival in rivals)
        is_sole = len(paths) == 1 and not has_rivals and winner is not None
        # What is remembered is found by the prefix alone, so where a rival may win nothing must be.
        is_steady = route.is_steady and not has_rivals
        yield PrefixRoute(host, path, replace(route, has_rivals=has_rivals, is_sole=is_sole, is_steady=is_steady))


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


def _edge_account(places: Places, host: str, covering: list[Ranked]) -> str | None:
    """Whose keys the edge's own paths on this host speak of; None where the host is neither an application's nor an
    auth domain."""
    if covering:
        return places.apps[covering[0].app_id].account_id
    owners = (account_id for account_id, account in sorted(places.accounts.items()) if account.auth_domain == host)
    return next(owners, None)


def _expressions(places: Places) -> Iterable[RegexRoute]:
    """What prefixes cannot say, best first; the edge's own paths on hosts that only an expression finds go before."""
    wanted = [ranked for ranked in places.patterns if not _is_prefix(ranked)]
    odd_hosts = {
        ranked.pattern.host: ranked for ranked in reversed(wanted) if not _is_class_or_exact(ranked.pattern.host)
    }
    for host, ranked in sorted(odd_hosts.items()):
        account_id = places.apps[ranked.app_id].account_id
        edge = Route(Kind.EDGE, account_id=account_id, rank=-1)
        yield RegexRoute(f"^{_host_form(host)}{re.escape(_EDGE_PATH)}(?:/.*)?$", edge)
    for ranked in wanted:
        for ingress in _possible_ingresses(places, ranked.pattern.host):
            places.pairs.add((ranked.app_id, ingress))
        form = f"^{_host_form(ranked.pattern.host)}{path_form(ranked.pattern.path)}$"
        yield RegexRoute(form, places.route(ranked, ""))


def _is_prefix(ranked: Ranked) -> bool:
    return ranked.is_literal_path and _is_class_or_exact(ranked.pattern.host)


def _is_class_or_exact(host: str) -> bool:
    return "*" not in host or (host.startswith("*.") and host.count("*") == 1)


def _host_form(host: str) -> str:
    # Host and path are one text here: a wildcard of the host must not reach into the path.
    return host_form(host).replace("[^.]+", "[^./]+")


def _possible_ingresses(places: Places, pattern_host: str) -> Iterable[str]:
    """The ingresses that a request may have whose host the pattern covers."""
    yield ""
    for hostname in places.ingresses:
        if "*" not in hostname:
            if covers_host(pattern_host, hostname):
                yield hostname
        elif _may_meet(pattern_host, hostname):
            yield hostname


def _may_meet(left: str, right: str) -> bool:
    """Whether some host may fit both patterns: label by label, generously where both have wildcards."""
    left_labels, right_labels = left.split("."), right.split(".")
    return len(left_labels) == len(right_labels) and all(
        ("*" in one and "*" in other) or covers_host(one, other) or covers_host(other, one)
        for one, other in zip(left_labels, right_labels, strict=True)
    )

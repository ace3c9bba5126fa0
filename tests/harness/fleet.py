"""A running Foregate of one or several edges under load, with tokens that must work and tokens that must not.

`foregate up` on SQLite, or on a PostgreSQL server that is the test's own. What is done to it is in `harness.strikes`,
what must hold afterwards in `harness.invariants`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from harness.http1 import Connection
from harness.load import Caller, Load, running_load
from harness.origin import Origin
from harness.ports import free_ports
from harness.postgresql import PostgresqlServer
from harness.processes import Process
from harness.product import Foregate, running_foregate
from harness.things import APPLIED_SECONDS, App, Token, allow, create_app, create_token
from harness.waiting import until

TOKENS = "/access/service_tokens"
MANY = ("--edges", "3", "--workers", "2", "--apis", "2")
MANY_NAMES = (
    "api",
    "api-2",
    "worker",
    "worker-2",
    "edge",
    "edge-2",
    "edge-3",
    "haproxy",
    "haproxy-2",
    "haproxy-3",
    "up",
)
ONE_NAMES = ("api", "worker", "edge", "haproxy", "up")


@dataclass(slots=True)
class Edge:
    """One edge and the load on it. `troubles`: when its clients may be disturbed; `deaths`: when its HAProxy may have
    died with answers that it had no time to write down. Both on the monotonic clock."""

    number: int
    port: int
    load: Load = field(default_factory=Load)
    troubles: list[tuple[float, float]] = field(default_factory=list)
    deaths: list[tuple[float, float]] = field(default_factory=list)


@dataclass(slots=True)
class Fleet:
    """What is at stake. `names`: every process that must be there. `versions`: the version of each good token's secret,
    as its owner left it. `chosen_app` is open to the token `chosen` alone."""

    foregate: Foregate
    names: Sequence[str]
    server: PostgresqlServer | None
    app: App
    origin: Origin
    edges: list[Edge]
    good: list[Token]
    bad: dict[str, Token]
    versions: dict[str, int]
    chosen_app: App
    chosen: Token
    last_seen: dict[str, str] = field(default_factory=dict)

    def processes(self, name: str) -> list[Process]:
        """Those of that name and number; of HAProxy's those that serve, or will."""
        found = self.foregate.processes(name.partition("-")[0])
        return [process for process in found if process.instance == name and b"\0-c\0" not in process.command]

    def edges_of(self, name: str) -> list[Edge]:
        """Whose clients may notice when this process is struck."""
        kind, _, number = name.partition("-")
        if kind == "up":
            return self.edges
        return [edge for edge in self.edges if kind in ("edge", "haproxy") and edge.number == int(number or 1)]

    def ask(self, edge: Edge, host: str, token: Token | None) -> int:
        """The status of one request at that edge, on a connection of its own."""
        with Connection(edge.port) as connection:
            return connection.request("GET", "/", [("Host", host), *(token.headers if token else [])]).status

    def until_status(self, token: Token, status: int, *, host: str = "", edges: Sequence[Edge] | None = None) -> None:
        """Wait until this token gets this status at every edge, or at these."""
        host = host or self.app.host
        for edge in self.edges if edges is None else edges:
            until(
                lambda edge=edge: self.ask(edge, host, token) == status,
                APPLIED_SECONDS,
                f"edge {edge.number} answers {status}",
            )

    def is_bad_now(self, kind: str, token: Token) -> None:
        """From now on nobody may let this one in: every edge has been seen to refuse it."""
        self.bad[kind] = token
        self._call(f"bad {kind}", token)

    def is_good_now(self, token: Token, version: int) -> None:
        """From now on it must work: every edge has been seen to let it in."""
        self.good.append(token)
        self.versions[token.id] = version
        self._call("good", token)

    def _call(self, kind: str, token: Token) -> None:
        for edge in self.edges:
            edge.load.callers.append(Caller(kind, self.app.host, token))


@contextmanager
def running_one(origin: Origin) -> Iterator[Fleet]:
    """One of each, as `foregate up` alone has it."""
    with running_foregate() as foregate:
        yield _with_tokens(foregate, ONE_NAMES, None, origin, edges=1)


@contextmanager
def running_many(origin: Origin, server: PostgresqlServer | None) -> Iterator[Fleet]:
    """Three edges, two workers, two API processes: on SQLite, or on this PostgreSQL server."""
    (feed_port,) = free_ports(1)
    settings = {"FOREGATE_FEED_PORT": str(feed_port)}
    name = "" if server is None else server.new_name()

    def set_up(foregate: Foregate) -> None:
        if server is not None:
            done = foregate.run("database", "setup", server.admin_url(name))
            assert done.returncode == 0, done.stderr.decode()

    if server is not None:
        settings["FOREGATE_DATABASE"] = server.url(name)
    with running_foregate(*MANY, prepare=set_up, **settings) as foregate:
        yield _with_tokens(foregate, MANY_NAMES, server, origin, edges=3)


@contextmanager
def under_load(fleet: Fleet, *, connections: int, pause_seconds: float, seed: int) -> Iterator[None]:
    """Every good and every bad token is asked for at every edge until the end of the block."""
    callers = [Caller("good", fleet.app.host, token) for token in fleet.good]
    callers += [Caller(f"bad {kind}", fleet.app.host, token) for kind, token in fleet.bad.items()]
    with ExitStack() as stack:
        for edge in fleet.edges:
            load = running_load(
                edge.port, callers, connections=connections, pause_seconds=pause_seconds, seed=seed + edge.number
            )
            edge.load = stack.enter_context(load)
        yield


def _with_tokens(
    foregate: Foregate, names: Sequence[str], server: PostgresqlServer | None, origin: Origin, *, edges: int
) -> Fleet:
    api = foregate.api()
    good = [create_token(api) for _ in range(4)]
    disabled, revoked, rotated, expired = (create_token(api) for _ in range(4))
    app = create_app(foregate, origin.service, [allow()])
    under_test = [Edge(number, foregate.http_port + number - 1) for number in range(1, edges + 1)]
    versions = {token.id: 1 for token in good}
    chosen_app = create_app(foregate, origin.service, [allow(good[0])])
    fleet = Fleet(foregate, names, server, app, origin, under_test, good, {}, versions, chosen_app, good[0])
    for token in (*good, disabled, revoked, rotated, expired):
        fleet.until_status(token, 200)
    api.result("PUT", f"{TOKENS}/{disabled.id}", {"enabled": False})
    api.result("DELETE", f"{TOKENS}/{revoked.id}")
    api.result("POST", f"{TOKENS}/{rotated.id}/rotate", {})
    api.result("PUT", f"{TOKENS}/{expired.id}", {"duration": "1ms"})
    bad = {"disabled": disabled, "revoked": revoked, "rotated out": rotated, "expired": expired}
    for kind, token in bad.items():
        fleet.until_status(token, 401)
        fleet.bad[kind] = token
    fleet.bad["wrong"] = good[0].with_secret(good[1].secret)
    return fleet

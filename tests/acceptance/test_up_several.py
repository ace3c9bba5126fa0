"""`foregate up --edges 3 --workers 2 --apis 2`: several of a kind do what one does, and any one may be stopped."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from harness.callers import ask_demo, asking
from harness.http1 import Connection
from harness.origin import Origin
from harness.ports import free_ports
from harness.processes import Process, kill
from harness.product import Foregate, running_foregate
from harness.things import App, Token, allow, create_app, create_token, unique
from harness.waiting import until

EDGES = 3
MOMENTS = 5.0
BACK_SECONDS = 30
PLAIN_NAMES = ("api", "worker", "edge")


@pytest.fixture(scope="module")
def product() -> Iterator[Foregate]:
    (feed_port,) = free_ports(1)
    counts = ("--edges", str(EDGES), "--workers", "2", "--apis", "2")
    with running_foregate(*counts, FOREGATE_FEED_PORT=str(feed_port)) as started:
        yield started


@pytest.fixture(scope="module")
def app(product: Foregate, origin: Origin) -> App:
    return create_app(product, origin.service, [allow()])


def ports(product: Foregate) -> list[int]:
    return [product.http_port + number for number in range(EDGES)]


def status_at(port: int, app: App, token: Token) -> int:
    with Connection(port) as connection:
        return connection.request("GET", "/", [("Host", app.host), *token.headers]).status


def named(product: Foregate) -> dict[str, int]:
    """The processes by name, as `foregate status` tells them, once all are ready."""
    found = product.run("status", "--json", "--wait", str(BACK_SECONDS))
    assert found.returncode == 0, found.stdout
    return {process["name"]: process["pid"] for process in json.loads(found.stdout)["processes"]}


def until_all(product: Foregate, app: App, token: Token, status: int) -> None:
    for port in ports(product):
        until(lambda port=port: status_at(port, app, token) == status, MOMENTS, f"{status} at {port}")


def test_status_names_all_of_them(product: Foregate) -> None:
    assert list(named(product)) == ["api", "api-2", "worker", "worker-2", "edge", "edge-2", "edge-3", "echo"]
    listed = json.loads(product.run("edge", "list", "--json").stdout)
    assert {edge["name"] for edge in listed} == {"local", "edge-2", "edge-3"}


def test_a_token_is_let_in_and_revoked_at_every_edge(product: Foregate, app: App) -> None:
    for _ in range(6):  # whichever API process takes it
        token = create_token(product.api())
        until_all(product, app, token, 200)
        product.api().result("DELETE", f"/access/service_tokens/{token.id}")
        until_all(product, app, token, 401)


def test_a_revoked_api_token_is_refused_by_every_api_process(product: Foregate) -> None:
    made = json.loads(product.run("api-token", "create", unique("caller"), "--json").stdout)
    callers = [product.api(made["value"]) for _ in range(8)]  # a connection each, so that both have seen it

    def statuses() -> set[int]:
        return {caller.account("GET", "/access/apps").status for caller in callers}

    assert statuses() == {200}
    assert product.run("api-token", "revoke", made["id"]).returncode == 0
    until(lambda: statuses() <= {401, 403}, MOMENTS, "all connections are refused")


@pytest.mark.parametrize("name", ["api", "api-2", "worker", "worker-2", "edge", "edge-2"])
def test_any_one_may_be_stopped(product: Foregate, app: App, name: str) -> None:
    """A process that is stopped, as in an upgrade; of an edge it is the agent, whose HAProxy the next one adopts."""
    before, api = named(product), product.api()
    token = create_token(api)
    asks = [lambda port=port: ask_demo(product, port=port) for port in ports(product)]
    with asking(*asks, lambda: fresh_call(product), pause_seconds=0.02) as outcomes:
        number = signal.SIGUSR1 if name.startswith("edge") else signal.SIGTERM
        kill(Process(before[name], name, b"", b""), number)
        until(lambda: named(product).get(name) not in (None, before[name]), BACK_SECONDS, f"{name} is back")
    assert set(outcomes) == {"200"}, outcomes
    until_all(product, app, token, 200)


def fresh_call(product: Foregate) -> int:
    """A call on a connection of its own, as a command makes it."""
    return product.api().call("GET", "/user/tokens/verify").status


@pytest.mark.parametrize("name", ["api-2", "worker-2", "edge-3"])
def test_any_one_may_be_killed(product: Foregate, app: App, name: str) -> None:
    before = named(product)
    with asking(*[lambda port=port: ask_demo(product, port=port) for port in ports(product)]) as outcomes:
        kill(Process(before[name], name, b"", b""))
        until(lambda: named(product).get(name) not in (None, before[name]), BACK_SECONDS, f"{name} is back")
    assert set(outcomes) == {"200"}, outcomes


def test_every_request_counts_once(product: Foregate, origin: Origin) -> None:
    app, token = create_app(product, origin.service, [allow()]), create_token(product.api())
    answers: Counter[int] = Counter()
    for port in ports(product):
        until(lambda port=port: ask(port, app, token, answers) == 200, MOMENTS, f"it is let in at {port}")
    for number in range(60):
        if number == 30:
            kill(Process(named(product)["worker"], "worker", b"", b""))
        for port in ports(product):
            ask(port, app, token, answers)
    until(lambda: counted(product, app) >= answers[200], BACK_SECONDS, "all of them are counted")
    ask(product.http_port, app, token, answers)  # what counted twice would show with this one at the latest
    until(lambda: counted(product, app) >= answers[200], BACK_SECONDS, "the last one is counted")
    assert counted(product, app) == answers[200]


def ask(port: int, app: App, token: Token, answers: Counter[int]) -> int:
    status = status_at(port, app, token)
    answers[status] += 1
    return status


def counted(product: Foregate, app: App) -> int:
    """The requests of an application that were let in."""
    rows = product.api().result("GET", "/foregate/rollups?limit=10000")
    return sum(row["events"] for row in rows if (row["app_id"], row["reason"]) == (app.id, "service_auth"))

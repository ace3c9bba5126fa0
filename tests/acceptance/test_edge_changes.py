"""What an edge is told applies to everybody at once: also to clients whose connection was open before, and without
disturbing one of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from harness.api import Api
from harness.http1 import Answer
from harness.load import Caller, running_load
from harness.log import counted_gaps, logged_events
from harness.origin import Origin, running_origin
from harness.product import Foregate, running_foregate
from harness.things import App, Token, allow, create_app, create_token, event_of, unique, until_status
from harness.waiting import until

Ask = Callable[[], Answer]
CONNECTIONS = ("plain", "TLS", "HTTP/2")
# Each replaces the worker once or twice.
CHANGES = 4


def open_connections(stack: ExitStack, foregate: Foregate, host: str, token: Token | None) -> dict[str, Ask]:
    """For each kind of connection, how to ask on it again."""
    headers = token.headers if token else []
    lower = [(name.lower(), value) for name, value in headers]
    plain = stack.enter_context(foregate.connect())
    tls = stack.enter_context(foregate.connect_tls(host))
    h2 = stack.enter_context(foregate.connect_h2(host))
    return {
        "plain": lambda: plain.request("GET", "/", [("Host", host), *headers]),
        "TLS": lambda: tls.request("GET", "/", [("Host", host), *headers]),
        "HTTP/2": lambda: h2.get(host, "/", lower),
    }


def until_settled(api: Api) -> None:
    """Wait until the edge has applied all there is: no connection that is opened now meets a worker about to go."""
    until(lambda: [edge["pending"] for edge in api.result("GET", "/foregate/edges")] == [0], 10, "all is applied")


def in_force(api: Api, answer: Answer) -> None:
    """Wait for the receipt of a change."""
    assert answer.status < 300, answer.body
    seq = answer.header("foregate-change")

    def is_applied() -> bool:
        return all(edge["state"] == "applied" for edge in api.result("GET", f"/foregate/changes/{seq}")["edges"])

    until(is_applied, 10, f"change {seq} is applied")


def delete_app(api: Api, app: App) -> Answer:
    return api.account("DELETE", f"/access/apps/{app.id}")


def shut_policy(api: Api, app: App) -> Answer:
    """The application lets nobody in any more."""
    deny = {"name": unique("policy"), "decision": "deny", "include": [{"everyone": {}}]}
    body = {"type": "self_hosted", "name": app.host, "domain": app.host, "policies": [deny]}
    return api.account("PUT", f"/access/apps/{app.id}", body)


BYPASS = {"decision": "bypass", "include": [{"everyone": {}}]}


@pytest.mark.parametrize(
    ("has_token", "change", "why"),
    [
        (True, delete_app, "no_application"),
        (False, delete_app, "no_application"),
        (True, shut_policy, "policy_denied"),
    ],
    ids=["app deleted", "bypass app deleted", "policy changed"],
)
def test_change_reaches_connections_that_are_open(
    foregate: Foregate, api: Api, origin: Origin, has_token: bool, change: Callable[[Api, App], Answer], why: str
) -> None:
    token = create_token(api) if has_token else None
    app = create_app(foregate, origin.service, [allow(token) if token else {"name": unique("open"), **BYPASS}])
    until_status(foregate, app.host, token, 200)
    until_settled(api)
    with ExitStack() as stack:
        asks = open_connections(stack, foregate, app.host, token)
        for ask in asks.values():
            # Often enough that the connection remembers it, where it may.
            assert {ask().status for _ in range(40)} == {200}
        in_force(api, change(api, app))
        answers = {kind: ask() for kind, ask in asks.items()}
    assert {kind: answer.status for kind, answer in answers.items()} == dict.fromkeys(CONNECTIONS, 403)
    for answer in answers.values():
        event = event_of(api, answer)
        assert (event["reason"], event["ip"]) == (why, "127.0.0.1")


def test_revocation_reaches_connections_that_are_open_also_after_a_change(
    foregate: Foregate, api: Api, origin: Origin
) -> None:
    token = create_token(api)
    app = create_app(foregate, origin.service, [allow()])
    until_status(foregate, app.host, token, 200)
    until_settled(api)
    with ExitStack() as stack:
        asks = open_connections(stack, foregate, app.host, token)
        assert {ask().status for ask in asks.values() for _ in range(40)} == {200}
        create_app(foregate, origin.service, [allow()])
        in_force(api, api.account("DELETE", f"/access/service_tokens/{token.id}"))
        assert {ask().status for ask in asks.values()} == {401}


@pytest.fixture
def own_foregate() -> Iterator[Foregate]:
    with running_foregate() as started:
        yield started


def test_changes_under_load_disturb_nobody_and_each_request_is_one_event(own_foregate: Foregate) -> None:
    with running_origin() as origin:
        origin.is_recording = False
        api = own_foregate.api()
        token = create_token(api)
        app = create_app(own_foregate, origin.service, [allow(token)])
        until_status(own_foregate, app.host, token, 200)
        arrived = origin.count
        callers = [Caller("good", app.host, token), Caller("bad", app.host, token.with_secret("wrong"))]
        with running_load(own_foregate.http_port, callers, connections=24, pause_seconds=0.05, seed=1) as load:
            for _ in range(CHANGES):
                create_app(own_foregate, origin.service, [allow(token)])
                moment = time.monotonic()
                until(lambda since=moment: load.statuses("good", since) == {200}, 10, "the load goes on")
        assert load.errors == []
        found = Counter((outcome.kind, outcome.status) for outcome in load.outcomes)
        assert found.keys() == {("good", 200), ("bad", 401)}
        assert origin.count - arrived == found["good", 200]
        rays = {outcome.ray for outcome in load.outcomes}
        assert len(rays) == len(load.outcomes)

        def all_told() -> Counter[str]:
            told = Counter(event["ray"] for event in logged_events(own_foregate) if event["path"].startswith("/load/"))
            assert rays == told.keys()
            return told

        assert max(until(all_told, 20, "every answer is an event", every=0.2).values()) == 1
        assert counted_gaps(own_foregate) == 0

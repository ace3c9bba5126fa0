"""What the edge remembers of a caller must never answer for a request that only looks like the one remembered.

Each case makes the edge remember a request (in the connection and in the hot map), asks something nearly alike, and
holds the answers against the reference, by HTTP/1.1 and HTTP/2.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest

from differential.edge_under_test import EdgeUnderTest, running_edge
from differential.exchange import PlainClient, StreamClient
from differential.judgement import differences, expect
from edge_values import (
    ANY_TOKEN,
    app,
    client_id,
    ingress,
    json_of,
    knowledge,
    pair,
    policy,
    request,
    rule,
    secret_version,
    token,
)
from foregate.access.model import Header, Knowledge, Request
from foregate.core.clock import to_unix, utc_now
from foregate.core.decision import Reason
from foregate.edge.wire import AppValue, IpSelector, PolicyValue, TokenSelector, TokenValue

ADDRESS = "127.0.0.1"
DEADLINE_SECONDS = 10
FIRST, OTHER = pair(1), pair(2)


def identity(number: int) -> str:
    """As long as ids are: what is remembered stands at fixed places."""
    return f"{number:08x}-0000-4000-8000-000000000000"


def service_auth(number: int, selector: object = ANY_TOKEN, **parts: object) -> PolicyValue:
    return policy(identity(number), "non_identity", rule(selector, **parts))  # type: ignore[arg-type]


ONLY_OTHER = TokenSelector(client_id(2))
APPS: tuple[AppValue, ...] = (
    app("app.test", policies=[service_auth(1)]),
    app("app.test/admin", policies=[service_auth(2, ONLY_OTHER)]),
    app("own.test", policies=[service_auth(3)], header="authorization"),
    app("rival.test", policies=[service_auth(4)]),
    app("rival.test/x/*", policies=[service_auth(5, ONLY_OTHER)]),
    app("*.class.test", policies=[service_auth(6)]),
    app("a.class.test/only", policies=[service_auth(7, ONLY_OTHER)]),
    app("near.test", policies=[service_auth(8, IpSelector("127.0.0.1/32"))]),
    app("denied.test", policies=[policy(identity(9), "deny"), service_auth(10, ONLY_OTHER)]),
)
HOSTS = ("app.test", "own.test", "rival.test", "a.class.test", "b.class.test", "near.test", "denied.test", "free.test")


def known_with(*tokens: TokenValue) -> Knowledge:
    return knowledge(
        {identity(number): value for number, value in enumerate(APPS, 1)},
        tokens=dict(enumerate(tokens, 1)),
        ingresses=[ingress(host) for host in HOSTS],
    )


def asked(target: str = "/", *headers: Header, host: str = "app.test", method: str = "GET") -> Request:
    return request(target, *headers, host=host, address=ADDRESS, method=method)


async def disagreements(
    edge: EdgeUnderTest, known: Knowledge, client: PlainClient | StreamClient, requests: Sequence[Request]
) -> list[str]:
    before = len(await edge.events(0))
    wanted = [expect(one, known, utc_now()) for one in requests]
    answers = await client.ask(requests, depth=1)
    events = {event["ray"]: event for event in await edge.events(before + len(requests)) if event.get("why")}
    return [
        f"{want.request.method} {want.request.target}: {sentence}"
        for want, got in zip(wanted, answers, strict=True)
        for sentence in differences(want, got, events.get(got.value("cf-ray")))
    ]


REMEMBERED = asked("/", *FIRST)
TWISTS = {
    "other path": [asked("/some/where?x=%zz", *FIRST)],
    "odd path": [asked("/a/../b//c/%61?x=%zz", *FIRST), asked("/a%2fb", *FIRST)],
    "more specific application": [asked("/admin", *FIRST), asked("/admin/x", *FIRST), asked("/x/../admin", *FIRST)],
    "path beside it": [asked("/administrator", *FIRST)],
    "edge's own path": [asked("/cdn-cgi/access/certs", *FIRST), asked("/cdn-cgi/access/x", *FIRST)],
    "other token": [asked("/", *OTHER), asked("/admin", *OTHER), asked("/admin", *FIRST)],
    "id of another token": [asked("/", OTHER[0], FIRST[1])],
    "secret of another token": [asked("/", FIRST[0], OTHER[1])],
    "shorter secret": [asked("/", FIRST[0], (FIRST[1][0], FIRST[1][1][:-1]))],
    "longer secret": [asked("/", FIRST[0], (FIRST[1][0], FIRST[1][1] + "0"))],
    "no secret": [asked("/", FIRST[0])],
    "no id": [asked("/", FIRST[1])],
    "no credentials": [asked("/")],
    "doubled id": [asked("/", FIRST[0], FIRST[0], FIRST[1])],
    "doubled secret": [asked("/", FIRST[0], FIRST[1], FIRST[1])],
    "other id before it": [asked("/", OTHER[0], *FIRST)],
    "other secret before it": [asked("/", FIRST[0], OTHER[1], FIRST[1])],
    "folded secret": [asked("/", FIRST[0], (FIRST[1][0], f"{FIRST[1][1]},{FIRST[1][1]}"))],
    "other host": [asked("/", *FIRST, host="denied.test"), asked("/", *FIRST, host="unknown.test")],
    "open host": [asked("/", *FIRST, host="free.test")],
    "host in other words": [asked("/", *FIRST, host="APP.test.:80"), asked("/", *FIRST, host="app.test..")],
    "host with a slash": [asked("/", *FIRST, host="app.test/admin")],
    "absolute form": [asked("http://app.test/", *FIRST), asked("http://app.test/admin", *FIRST)],
    "rival": [asked("/", *FIRST, host="rival.test"), asked("/x/1", *FIRST, host="rival.test")] * 2,
    "class": [
        asked("/", *FIRST, host="b.class.test"),
        asked("/", *FIRST, host="a.class.test"),
        asked("/only", *FIRST, host="b.class.test"),
        asked("/only", *FIRST, host="a.class.test"),
    ]
    * 2,
    "forged headers": [
        asked("/", *FIRST, (name, value))
        for name in (
            "Cf-Access-Jwt-Assertion",
            "Cf_Access_Jwt_Assertion",
            "cf-access_jwt-assertion",
            "X-Forwarded-For",
            "X_Forwarded_For",
            "x-forwarded_proto",
            "X-Forwarded-Proto",
            "Cf-Connecting-Ip",
            "Cf-Ray",
        )
        for value in ("harmless", "forged", "forged")
    ],
    "cookies": [
        asked("/", *FIRST, ("Cookie", "a=b")),
        asked("/", *FIRST, ("Cookie", "a=b; CF_Authorization=forged; c=d")),
        asked("/", *FIRST, ("Cookie", "CF_Authorization=forged")),
    ]
    * 2,
    "metadata": [
        asked("/", *FIRST, ("Cf-Access-Metadata-Request", "true"), method=method)
        for method in ("GET", "GET", "HEAD", "GET", "HEAD")
    ],
    "metadata not asked": [asked("/", *FIRST, ("Cf-Access-Metadata-Request", "false"), method="HEAD")] * 2,
    "another method": [asked("/", *FIRST, method=method) for method in ("HEAD", "POST", "HEAD")],
    "own header beside the pair": [
        asked("/", *FIRST, ("Authorization", "Bearer x"), host="own.test"),
        asked("/", *FIRST, ("Authorization", "Bearer x"), host="own.test"),
        asked("/", *FIRST, ("Authorization", json_of(2)), host="own.test"),
        asked("/", ("Authorization", json_of(2)), host="own.test"),
        asked("/", *FIRST, ("Authorization", json_of(1)), host="own.test"),
        asked("/", *FIRST, ("Authorization", ""), host="own.test"),
    ],
    "own header of another application": [asked("/", *FIRST, ("Authorization", json_of(2)))] * 2,
}


@pytest.fixture(params=[PlainClient, StreamClient], ids=["h1", "h2"])
def connect(request: pytest.FixtureRequest) -> Callable[[int, str], PlainClient | StreamClient]:
    kind: Callable[[int, str], PlainClient | StreamClient] = request.param
    return kind


async def test_nearly_the_same_request_is_judged_as_if_nothing_were_remembered(
    connect: Callable[[int, str], PlainClient | StreamClient],
) -> None:
    known = known_with(token(1), token(2))
    found = {}
    with tempfile.TemporaryDirectory(prefix="fg-") as folder:
        async with running_edge(known, Path(folder)) as edge:
            for name, twist in TWISTS.items():
                await edge.fold()
                if connect is StreamClient and name in ("absolute form",):
                    continue  # HTTP/2 has none
                client = connect(edge.port, ADDRESS)
                warm = [replace(one, target="/") for one in twist if expect(one, known, utc_now()).decision.is_allowed]
                sequence = [REMEMBERED, REMEMBERED, *warm, *warm, *twist, REMEMBERED, *twist]
                found[name] = await disagreements(edge, known, client, sequence)
                await edge.settle()
                found[name] += await disagreements(edge, known, client, sequence)
                await client.close()
                # Another connection remembers nothing yet, the hot map does.
                client = connect(edge.port, ADDRESS)
                found[name] += await disagreements(edge, known, client, [*twist, REMEMBERED, *twist])
                await client.close()

    assert {name: sentences for name, sentences in found.items() if sentences} == {}


async def test_policy_on_addresses_is_asked_again_for_every_address() -> None:
    known = known_with(token(1), token(2))
    with tempfile.TemporaryDirectory(prefix="fg-") as folder:
        async with running_edge(known, Path(folder)) as edge:
            found = []
            for _ in range(2):
                for address in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
                    client = PlainClient(edge.port, address)
                    one = replace(asked("/", *FIRST, host="near.test"), address=ip_address(address))
                    found += await disagreements(edge, known, client, [one] * 3)
                    await client.close()
                await edge.settle()

    assert found == []


CHANGES: dict[str, TokenValue | None] = {
    "disabled": token(1, is_enabled=False),
    "deleted": None,
    "expired": token(1, ends=1),
    "moved": token(1, account="c" * 32),
    "rotated": token(1, secrets=(secret_version(1, 2),)),
    "rotated, overlap over": token(1, secrets=(secret_version(1, 2), secret_version(1, 1, ends=1))),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_changed_token_is_refused_on_connections_that_remember_it(change: TokenValue | None) -> None:
    known = known_with(token(1), token(2))
    changed = replace(known, tokens={name: t for name, t in known.tokens.items() if name != client_id(1)})
    if change is not None:
        changed = replace(changed, tokens={**changed.tokens, client_id(1): change})
    with tempfile.TemporaryDirectory(prefix="fg-") as folder:
        async with running_edge(known, Path(folder)) as edge:
            clients = [PlainClient(edge.port, ADDRESS), StreamClient(edge.port, ADDRESS)]
            for client in clients:
                assert await disagreements(edge, known, client, [REMEMBERED] * 3) == []
                await edge.settle()
                assert await disagreements(edge, known, client, [REMEMBERED] * 3) == []

            await edge.tell({client_id(1): change})
            found = [await disagreements(edge, changed, client, [REMEMBERED] * 2) for client in clients]
            await edge.fold()
            found += [await disagreements(edge, changed, client, [REMEMBERED] * 2) for client in clients]
            await edge.tell({client_id(1): token(1)})
            found += [await disagreements(edge, known, client, [REMEMBERED] * 2) for client in clients]

    assert found == [[]] * 6


def ending_token(what: str, end: int) -> tuple[TokenValue, Reason]:
    """A token that is good until `end`, and the reason after that."""
    match what:
        case "token":
            return token(1, ends=end), Reason.TOKEN_EXPIRED
        case "token before its older secret":
            older = secret_version(1, 1, ends=end + 3600)
            return token(1, ends=end, secrets=(secret_version(1, 2), older)), Reason.TOKEN_EXPIRED
        case _:
            older = secret_version(1, 1, ends=end)
            return token(1, ends=end + 3600, secrets=(secret_version(1, 2), older)), Reason.SECRET_SUPERSEDED


@pytest.mark.parametrize("what", ["token", "token before its older secret", "older secret"])
async def test_remembered_credentials_end_at_the_second_that_the_record_says(what: str) -> None:
    value, reason = ending_token(what, to_unix(utc_now() + timedelta(seconds=2)))
    known = known_with(value, token(2))
    with tempfile.TemporaryDirectory(prefix="fg-") as folder:
        async with running_edge(known, Path(folder)) as edge:
            clients = [PlainClient(edge.port, ADDRESS), StreamClient(edge.port, ADDRESS)]
            deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
            while expect(REMEMBERED, known, utc_now()).decision.reason is not reason:
                assert asyncio.get_running_loop().time() < deadline
                for client in clients:
                    before = expect(REMEMBERED, known, utc_now()).decision
                    (answer,) = await client.ask([REMEMBERED], depth=1)
                    after = expect(REMEMBERED, known, utc_now()).decision
                    assert answer.status in {decision.status or 200 for decision in (before, after)}
                await edge.settle()
            found = [await disagreements(edge, known, client, [REMEMBERED] * 2) for client in clients]

    assert found == [[], []]


def test_cases_are_what_they_are_called() -> None:
    known = known_with(token(1), token(2))
    reasons = {expect(one, known, utc_now()).decision.reason for twist in TWISTS.values() for one in twist}

    assert expect(REMEMBERED, known, utc_now()).decision.reason is Reason.SERVICE_AUTH
    assert reasons >= {
        Reason.SERVICE_AUTH,
        Reason.EDGE_ANSWER,
        Reason.REQUEST_MALFORMED,
        Reason.CREDENTIALS_MALFORMED,
        Reason.SECRET_MISMATCH,
        Reason.NO_APPLICATION,
        Reason.NO_CREDENTIALS,
        Reason.POLICY_DENIED,
        Reason.NO_POLICY_MATCHED,
    }

"""What a request may hold, how it is answered, and what of it reaches the origin."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_values import ANY_TOKEN, EVERYONE, app, client_id, ingress, pair, policy, rule, secret_of
from harness.http1 import Answer, Connection
from harness.origin import Origin, Received, running_origin
from harness.websocket import say, upgrade
from integration.engines.running_worker import RunningWorker, assertion, records_of, running_worker

APP = "00000000-0000-4000-8000-0000000000aa"
OPEN_APP = "00000000-0000-4000-8000-0000000000bb"
HEADER_APP = "00000000-0000-4000-8000-0000000000cc"
POLICY = "00000000-0000-4000-8000-0000000000a1"
LETS_TOKENS_IN = policy(POLICY, "non_identity", rule(ANY_TOKEN))
LETS_ALL_IN = policy("00000000-0000-4000-8000-0000000000b1", "bypass", rule(EVERYONE))


@dataclass(frozen=True, slots=True)
class Edge:
    """A worker in front of an origin."""

    worker: RunningWorker
    origin: Origin

    def get(self, target: str, *headers: tuple[str, str], host: str = "app.test", method: str = "GET") -> Answer:
        """One request on a connection of its own."""
        with Connection(self.worker.port) as connection:
            return connection.request(method, target, [("Host", host), *headers])

    def received(self, answer: Answer) -> Received:
        """The request that the origin got for an answer."""
        ray = answer.header("cf-ray")
        return next(r for r in self.origin.received if r.header("cf-ray") == ray)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    folder = tmp_path_factory.mktemp("w")
    apps = {
        APP: app("app.test", policies=[LETS_TOKENS_IN], status=401),
        OPEN_APP: app("app.test/public", policies=[LETS_ALL_IN]),
        HEADER_APP: app("header.test", policies=[LETS_TOKENS_IN], header="x-machine"),
    }
    with running_origin() as origin:
        known = records_of(apps, *(ingress(host, service=origin.service) for host in ("app.test", "header.test")))
        with running_worker(folder, known) as worker:
            yield Edge(worker, origin)


def test_the_origin_gets_an_assertion_instead_of_the_secret(edge: Edge) -> None:
    answer = edge.get("/a?b=c", *pair(1), ("X-Own", "kept"))

    got = edge.received(answer)
    assert answer.status == 200
    assert got.target == "/a?b=c"
    assert got.header("cf-access-jwt-assertion") == assertion(APP, client_id(1), POLICY)
    assert got.header("x-own") == "kept"
    assert not got.all("cf-access-client-id") and not got.all("cf-access-client-secret")
    assert secret_of(1) not in repr(got)


def test_the_edge_says_who_asks_and_how(edge: Edge) -> None:
    got = edge.received(edge.get("/", *pair(1)))

    assert got.header("cf-connecting-ip") == "127.0.0.1"
    assert got.header("x-forwarded-for") == "127.0.0.1"
    assert got.header("x-forwarded-proto") == "http"


@pytest.mark.parametrize("path", ["/", "/public"], ids=["token", "bypass"])
@pytest.mark.parametrize(
    "forged",
    [
        "Cf-Access-Jwt-Assertion",
        "Cf-Access-Token",
        "Cf-Access-Authenticated-User-Email",
        "Cf-Ray",
        "Cf-Connecting-Ip",
        "CF_Access_Jwt_Assertion",
        "Cf-Access_Jwt-Assertion",
        "Cf_Connecting_Ip",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X_Forwarded_For",
        "X-Forwarded_For",
        "X_Forwarded-Proto",
    ],
)
def test_what_only_the_edge_may_say_is_not_believed_of_a_client(edge: Edge, path: str, forged: str) -> None:
    got = edge.received(edge.get(path, *pair(1), (forged, "forged"), (forged, "forged again")))

    assert "forged" not in repr(got)


@pytest.mark.parametrize(
    ("sent", "left"),
    [
        ("CF_Authorization=x; a=b", "a=b"),
        ("a=b; CF_Authorization=x; c=d", "a=b; c=d"),
        ("a=b; CF_Authorization=x", "a=b; "),
        ("a=b;CF_Authorization=x;CF_Authorization=y;c=d", "a=b;c=d"),
        ("XCF_Authorization=1; a=CF_Authorization", "XCF_Authorization=1; a=CF_Authorization"),
    ],
)
def test_only_the_access_cookie_is_taken_away(edge: Edge, sent: str, left: str) -> None:
    got = edge.received(edge.get("/", *pair(1), ("Cookie", sent)))

    assert (got.header("cookie") or "").strip() == left.strip()


@pytest.mark.parametrize(
    ("sent", "judged"),
    [
        ("/a//b", "/a/b"),
        ("/a/./b/../c", "/a/c"),
        ("/%70ublic/x", "/public/x"),
        ("/a%c3%a4?q=%zz//..", "/a%C3%A4?q=%zz//.."),
        ("/../../x", "/x"),
        ("http://app.test/x?y", "/x?y"),
        ("http://APP.test:80", "/"),
    ],
)
def test_the_origin_gets_exactly_the_path_that_was_judged(edge: Edge, sent: str, judged: str) -> None:
    answer = edge.get(sent, *pair(1), host="APP.test:80" if "APP" in sent else "app.test")

    assert edge.received(answer).target == judged
    assert edge.worker.event(answer.header("cf-ray"))["path"] == judged.partition("?")[0]


@pytest.mark.parametrize("path", ["/public/../x", "/public/%2e%2e/x", "//public/..//x", "/x/public", "/publicity"])
def test_no_path_gets_around_an_application(edge: Edge, path: str) -> None:
    answer = edge.get(path)

    assert answer.status == 401
    assert edge.worker.event(answer.header("cf-ray"))["why"] == "no_credentials"


@pytest.mark.parametrize("path", ["/a%2Fb", "/a%5cb", "/a%00", "/a\\b", "/a%", "/a%g1", "a", "*", "/ä", "/a#b"])
@pytest.mark.parametrize("prefix", ["", "/public"], ids=["guarded", "open"])
def test_a_malformed_path_reaches_nobody(edge: Edge, prefix: str, path: str) -> None:
    target = prefix + path if path.startswith("/") else path

    assert edge.get(target, *pair(1)).status == 400


def test_a_request_with_length_and_chunks_smuggles_nothing(edge: Edge) -> None:
    """HAProxy lets chunks win, drops the length and closes (RFC 9112 6.3); what follows is nobody's request."""
    head = b"POST /public/outer HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    inner = b"GET /public/inner HTTP/1.1\r\nHost: app.test\r\n\r\n"

    with Connection(edge.worker.port) as connection:
        answer = connection.exchange(head + b"0\r\n\r\n" + inner)
        assert connection.is_closed()

    got = edge.received(answer)
    assert got.all("content-length") == [] and got.header("transfer-encoding") == "chunked"
    assert edge.origin.marked("/public/inner") == []


def test_headers_beyond_the_bound_are_refused(edge: Edge) -> None:
    assert edge.get("/public", ("X-Big", "x" * 100_000)).status == 400
    assert edge.get("/public", ("X-Big", "x" * 12_000)).status == 200


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ([], "no_credentials"),
        (pair(99), "token_unknown"),
        ([("CF-Access-Client-Id", client_id(1)), ("CF-Access-Client-Secret", "x")], "secret_mismatch"),
        ([*pair(1), ("CF-Access-Client-Secret", "x")], "credentials_malformed"),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "*/*"])
def test_a_refusal_says_the_same_to_whoever_is_refused(
    edge: Edge, headers: list[tuple[str, str]], why: str, accept: str
) -> None:
    answer = edge.get("/", *headers, ("Accept", accept))

    ray = answer.header("cf-ray")
    assert answer.status == 401
    assert answer.header("cf-access-aud") == "f" * 64
    assert answer.header("cf-access-domain") == "app.test"
    assert answer.header("cache-control") == "no-store"
    assert answer.header("www-authenticate") == "Cloudflare-Access"
    event = edge.worker.event(ray)
    assert (event["why"], event["st"], event["app"]) == (why, 401, APP)
    body = answer.body.decode().replace(str(ray), "RAY")
    if accept == "*/*":
        assert answer.header("content-type") == "text/html; charset=utf-8"
        assert "RAY" in body
    else:
        sentence = "This application needs a service token." if not headers else "The service token was not accepted."
        assert json.loads(body) == {"message": sentence, "status_code": 401, "aud": "f" * 64, "ray_id": "RAY"}


def test_credentials_may_come_in_the_applications_own_header(edge: Edge) -> None:
    both = json.dumps({"cf-access-client-id": client_id(2), "CF-Access-Client-Secret": secret_of(2)})

    answer = edge.get("/", ("X-Machine", both), host="header.test")

    got = edge.received(answer)
    assert got.header("cf-access-jwt-assertion") == assertion(HEADER_APP, client_id(2), POLICY)
    assert not got.all("x-machine")
    assert edge.get("/", ("X-Machine", both), *pair(2), host="header.test").status == 401
    assert edge.received(edge.get("/", ("X-Machine", "v2"), *pair(2), host="header.test")).header("x-machine") == "v2"


def test_the_keys_are_served_on_every_host_of_an_application_and_the_auth_domain(edge: Edge) -> None:
    for host in ("app.test", "header.test", "auth.test"):
        answer = edge.get("/cdn-cgi/access/certs", host=host)
        assert answer.status == 200
        assert answer.json()["keys"] == [{"kid": "k" * 64, "kty": "RSA"}]
        assert edge.worker.event(answer.header("cf-ray"))["why"] == "edge_answer"
    assert edge.get("/cdn-cgi/access/other").status == 404
    assert edge.get("/cdn-cgi/access/certs", host="other.test").status == 403


def test_cloudflared_learns_which_application_a_host_is(edge: Edge) -> None:
    answer = edge.get("/x", ("cf-access-metadata-request", "true"), method="HEAD")

    assert answer.header("cf-access-metadata") == assertion(APP, "app.test", "metadata")
    assert edge.worker.event(answer.header("cf-ray"))["why"] == "edge_answer"


def test_a_websocket_is_let_through_and_its_event_does_not_wait_for_its_end(edge: Edge) -> None:
    with Connection(edge.worker.port) as connection:
        assert upgrade(connection, "app.test", "/ws", pair(1)) == 101
        assert say(connection, "hello") == "hello"

        found = [event for event in edge.worker.events() if event["path"] == "/ws"]
        assert [(event["why"], event["st"]) for event in found] == [("service_auth", 101)]


def test_a_websocket_without_a_token_is_refused(edge: Edge) -> None:
    with Connection(edge.worker.port) as connection:
        assert upgrade(connection, "app.test", "/ws") == 401


def test_an_unsigned_request_is_refused_and_one_that_can_wait_is_signed(edge: Edge) -> None:
    edge.worker.agent.is_silent = True
    try:
        answer = edge.get("/", *pair(7))
    finally:
        edge.worker.agent.is_silent = False

    assert answer.status == 503
    assert edge.worker.event(answer.header("cf-ray"))["why"] == "assertion_unavailable"
    assert edge.get("/", *pair(7)).status == 200


def test_clients_behind_a_trusted_proxy_are_told_apart_and_others_are_not_believed(tmp_path: Path) -> None:
    apps = {APP: app("app.test", policies=[LETS_ALL_IN])}
    with running_origin() as origin:
        known = records_of(apps, ingress("app.test", service=origin.service))
        with running_worker(tmp_path, known, trusted_proxies=("127.0.0.1/32", "10.0.0.0/8")) as worker:

            def seen(source: str, *forwarded: str) -> tuple[str | None, ...]:
                with Connection(worker.port, source=source) as connection:
                    lines = [("X-Forwarded-For", value) for value in forwarded]
                    headers = [("Host", "app.test"), *lines, ("X-Forwarded-Proto", "https")]
                    answer = connection.request("GET", "/", headers)
                got = next(r for r in origin.received if r.header("cf-ray") == answer.header("cf-ray"))
                event = worker.event(answer.header("cf-ray"))
                return event["ip"], got.header("cf-connecting-ip"), got.header("x-forwarded-proto")

            assert seen("127.0.0.1", "192.0.2.1, 198.51.100.7, 10.1.1.1") == ("198.51.100.7",) * 2 + ("https",)
            assert seen("127.0.0.2", "192.0.2.1") == ("127.0.0.2",) * 2 + ("http",)


def test_the_proxy_protocol_is_spoken_with_named_networks_only(tmp_path: Path) -> None:
    apps = {APP: app("app.test", policies=[LETS_ALL_IN])}
    with running_origin() as origin:
        known = records_of(apps, ingress("app.test", service=origin.service))
        with running_worker(tmp_path, known, proxy_protocol_from=("127.0.0.1/32",)) as worker:
            request = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
            line = b"PROXY TCP4 192.0.2.9 192.0.2.10 1234 80\r\n"

            with Connection(worker.port, source="127.0.0.1") as connection:
                ray = connection.exchange(line + request).header("cf-ray")
                assert worker.event(ray)["ip"] == "192.0.2.9"
            with Connection(worker.port, source="127.0.0.2") as connection:
                assert connection.exchange(line + request).status == 400

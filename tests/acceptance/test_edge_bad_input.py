"""Bad input at the edge: each gets a clear 4xx, and nothing unjudged ever reaches an origin."""

from __future__ import annotations

import contextlib

import pytest

from harness.http1 import Connection
from harness.http2 import StreamReset
from harness.origin import Origin
from harness.product import Foregate
from harness.things import App, Token, allow, create_app, create_token, unique, until_status


@pytest.fixture(scope="module")
def token(foregate: Foregate) -> Token:
    return create_token(foregate.api())


@pytest.fixture(scope="module")
def app(foregate: Foregate, origin: Origin, token: Token) -> App:
    made = create_app(foregate, origin.service, [allow(token)], read_service_tokens_from_header="X-Credentials")
    until_status(foregate, made.host, token, 200)
    return made


def raw_request(app: App, token: Token | None, *lines: str, target: str = "/", end: str = "\r\n\r\n") -> bytes:
    """A GET with the token's headers and more lines as they are."""
    credentials = [f"{name}: {value}" for name, value in token.headers] if token else []
    head = [f"GET {target} HTTP/1.1", f"Host: {app.host}", *credentials, *lines]
    return ("\r\n".join(head) + end).encode("latin-1")


def status_of(foregate: Foregate, data: bytes) -> int:
    """The status of the answer; 0 where the connection was closed without one."""
    with foregate.connect() as connection:
        try:
            return connection.exchange(data).status
        except (EOFError, ConnectionResetError, BrokenPipeError):
            return 0


def credentials(token: Token) -> dict[str, list[str]]:
    """Header lines that cannot authenticate anybody, though they hold the right secret."""
    given_id, given_secret = f"CF-Access-Client-Id: {token.client_id}", f"CF-Access-Client-Secret: {token.secret}"
    custom = f'X-Credentials: {{"cf-access-client-id":"{token.client_id}","cf-access-client-secret":"{token.secret}"}}'
    return {
        "id twice": [given_id, given_id, given_secret],
        "secret twice": [given_id, given_secret, given_secret],
        "both twice": [given_id, given_secret, given_id, given_secret],
        "two ids": [given_id, f"CF-Access-Client-Id: {'f' * 32}.access", given_secret],
        "folded id": [f"{given_id}, {token.client_id}", given_secret],
        "folded secret": [given_id, f"{given_secret},{token.secret}"],
        "trailing comma": [given_id, f"{given_secret},"],
        "secret on two lines": [given_id, given_secret[:40], f" {given_secret[40:]}"],
        "id alone": [given_id],
        "secret alone": [given_secret],
        "empty id": ["CF-Access-Client-Id:", given_secret],
        "empty secret": [given_id, "CF-Access-Client-Secret:"],
        "secret of blanks": [given_id, "CF-Access-Client-Secret:    "],
        "standard and custom": [given_id, given_secret, custom],
        "custom twice": [custom, custom],
        "custom without a secret": [f'X-Credentials: {{"cf-access-client-id":"{token.client_id}"}}'],
        "custom with another member": [custom.replace("}", ',"x":"y"}')],
        "custom with a member twice": [custom.replace("}", f',"cf-access-client-secret":"{token.secret}"}}')],
        "custom cut off": [custom.removesuffix("}")],
        "custom with numbers": ['X-Credentials: {"cf-access-client-id":1,"cf-access-client-secret":2}'],
        "custom that is empty": ["X-Credentials: {}"],
    }


@pytest.mark.parametrize("what", credentials(Token("", "", "")))
def test_malformed_credentials_authenticate_nobody(
    foregate: Foregate, origin: Origin, app: App, token: Token, what: str
) -> None:
    mark = unique("mark")
    lines = credentials(token)[what]
    assert status_of(foregate, raw_request(app, None, *lines, target=f"/?{mark}")) == 401
    assert origin.marked(mark) == []


def bad_requests(app: App, token: Token) -> dict[str, tuple[bytes, set[int]]]:
    """Raw requests with the token's good credentials, and what may come back (0: closed without an answer)."""

    def get(*lines: str, target: str = "/bad", end: str = "\r\n\r\n") -> bytes:
        return raw_request(app, token, *lines, target=target, end=end)

    host = f"Host: {app.host}\r\n"
    malformed = {400}
    return {
        "two lengths that differ": (get("Content-Length: 5", "Content-Length: 6") + b"abcdef", malformed),
        "negative length": (get("Content-Length: -1"), malformed),
        "length with a sign": (get("Content-Length: +5") + b"abcde", malformed),
        "unknown transfer coding": (get("Transfer-Encoding: chunked, gzip"), {400, 501, 422}),
        "obscured transfer coding": (get("Transfer-Encoding: xchunked", "Content-Length: 0"), {400, 501, 422}),
        "space before the colon": (get("Transfer-Encoding : chunked"), malformed),
        # RFC 9112 5.2 lets a server join the lines; the origin must get one.
        "folded header line": (get("X-A: a", " b"), {200, 400}),
        "no colon": (get("Nonsense"), malformed),
        "control character in a name": (get("X\x01A: b"), malformed),
        "NUL in a value": (get("X-A: a\0b"), malformed),
        "bare CR": (get("X-A: a\rb"), malformed),
        "no host": (b"GET /bad HTTP/1.1\r\n\r\n", malformed),
        # HAProxy makes one of two that are the same.
        "the same host twice": (get(f"Host: {app.host}"), {200, 400}),
        "two hosts that differ": (get("Host: other.localhost"), malformed),
        "empty host": (get().replace(host.encode(), b"Host: \r\n"), malformed),
        "host with a path": (get().replace(app.host.encode(), app.host.encode() + b"/x"), malformed),
        "host with a user": (get().replace(host.encode(), f"Host: u@{app.host}\r\n".encode()), malformed),
        "host with a space": (get().replace(host.encode(), f"Host: {app.host} x\r\n".encode()), malformed),
        "host with a comma": (get().replace(host.encode(), f"Host: {app.host},x\r\n".encode()), malformed),
        "host with a NUL": (get().replace(host.encode(), f"Host: {app.host}\0\r\n".encode()), malformed),
        "host that is not UTF-8": (get().replace(host.encode(), b"Host: \xff\xfe\r\n"), malformed),
        "host with a bad port": (get().replace(host.encode(), f"Host: {app.host}:x\r\n".encode()), malformed),
        "path that is not UTF-8": (get(target="/\xff\xfe"), malformed),
        "path with a tab": (get(target="/a\tb"), malformed),
        "path with a space": (get(target="/a b"), malformed),
        "path without a slash": (get(target="bad"), malformed),
        "star for a GET": (get(target="*"), malformed),
        "fragment": (get(target="/a#b"), malformed),
        "encoded slash": (get(target="/a%2fb"), malformed),
        "encoded backslash": (get(target="/a%5Cb"), malformed),
        "encoded NUL": (get(target="/a%00b"), malformed),
        "backslash": (get(target="/a\\b"), malformed),
        "broken escape": (get(target="/a%2"), malformed),
        "unknown version": (get().replace(b"HTTP/1.1", b"HTTP/3.7"), {0, 200, 400, 505}),
        "a version of old": (b"GET /bad\r\n\r\n", {0, 400}),
        "headers of 100 KiB": (get("X-A: " + "a" * 102_400), {400, 414, 431}),
        "1,000 headers": (get(*(f"X-{number}: v" for number in range(1000))), {400, 431}),
        "target of 100 KiB": (get(target="/" + "a" * 102_400), {400, 414, 431}),
        "a proxy's CONNECT": (get().replace(b"GET /bad", b"CONNECT other.localhost:443"), {400, 405}),
        "TRACE": (get().replace(b"GET", b"TRACE"), {400, 405, 200}),
        "method that is none": (get().replace(b"GET", b"G(T"), malformed),
        "another protocol": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {0, 400}),
    }


BAD_REQUESTS = bad_requests(App("", "", "x.localhost", ""), Token("", "", ""))


@pytest.mark.parametrize("what", BAD_REQUESTS)
def test_malformed_request_reaches_no_origin(
    foregate: Foregate, origin: Origin, app: App, token: Token, what: str
) -> None:
    data, allowed = bad_requests(app, token)[what]
    before = origin.count
    status = status_of(foregate, data)
    assert status in allowed
    reached = origin.received[before:]
    if status == 200:
        assert len(reached) == 1, "what was let through was judged"
        assert reached[0].header("host") == app.host
        assert not any("\n" in value for _, value in reached[0].headers)
    else:
        assert reached == []


@pytest.mark.parametrize("order", [["length", "coding"], ["coding", "length"]], ids=["length first", "coding first"])
def test_request_with_both_lengths_smuggles_nothing(
    foregate: Foregate, origin: Origin, app: App, token: Token, order: list[str]
) -> None:
    """RFC 9112 6.1: refuse it, or go by Transfer-Encoding alone and close. HAProxy 2.8 does the second, before any rule
    could refuse: the origin gets one request with one length, and what follows on the connection is not read."""
    mark = unique("smuggled")
    inner = f"GET /{mark}/inner HTTP/1.1\r\nHost: {app.host}\r\n\r\n"
    lines = {"length": f"Content-Length: {len(inner) + 5}", "coding": "Transfer-Encoding: chunked"}
    outer = raw_request(app, token, *(lines[name] for name in order), target=f"/{mark}/outer")
    with foregate.connect() as connection:
        status = connection.exchange(outer + b"0\r\n\r\n" + inner.encode()).status
        assert connection.is_closed()
    assert status in (200, 400)
    reached = origin.marked(mark)
    assert [request.target for request in reached] == ([f"/{mark}/outer"] if status == 200 else [])
    assert all(request.all("content-length") == [] for request in reached)


def test_body_that_looks_like_a_request_stays_a_body(
    foregate: Foregate, origin: Origin, app: App, token: Token
) -> None:
    mark = unique("smuggled")
    inner = f"GET /{mark}/inner HTTP/1.1\r\nHost: {app.host}\r\n\r\n"
    with foregate.connect() as connection:
        body = raw_request(app, token, f"Content-Length: {len(inner)}", target=f"/{mark}/outer")
        assert connection.exchange(body + inner.encode()).status == 200
    (request,) = origin.marked(mark)
    assert (request.target, request.body) == (f"/{mark}/outer", inner.encode())


def test_headers_of_100_kib_do_not_disturb_the_next_client(foregate: Foregate, app: App, token: Token) -> None:
    assert status_of(foregate, raw_request(app, token, "X-A: " + "a" * 102_400)) in (400, 414, 431)
    assert foregate.get(app.host, "/", token.headers).status == 200


def test_client_that_never_ends_its_headers_is_let_go(foregate: Foregate, app: App, token: Token) -> None:
    """A slow client holds a connection for a bounded time, and nobody else up."""
    with foregate.connect() as slow:
        slow.socket.settimeout(60)
        slow.send(raw_request(app, token, "X-A: a", end="\r\n"))
        assert foregate.get(app.host, "/", token.headers).status == 200
        with contextlib.suppress(EOFError):
            assert slow.read_answer().status == 408
    assert foregate.get(app.host, "/", token.headers).status == 200


def pseudo(app: App, **changed: str | None) -> list[tuple[str, str]]:
    """The pseudo-headers of a GET, changed or left out."""
    plain: dict[str, str | None] = {
        ":method": "GET",
        ":scheme": "https",
        ":authority": app.host,
        ":path": "/h2",
        **{f":{name}": value for name, value in changed.items()},
    }
    return [(name, value) for name, value in plain.items() if value is not None]


def h2_tricks(app: App) -> dict[str, list[tuple[str, str]]]:
    plain = pseudo(app)
    return {
        "no path": pseudo(app, path=None),
        "empty path": pseudo(app, path=""),
        "path without a slash": pseudo(app, path="h2"),
        "path with a space": pseudo(app, path="/a b"),
        "path with a line break": pseudo(app, path="/a\r\nX: y"),
        "path with a NUL": pseudo(app, path="/a\0"),
        "encoded slash": pseudo(app, path="/a%2fb"),
        "absolute path": pseudo(app, path="https://other.localhost/"),
        "scheme of another protocol": pseudo(app, scheme="ftp"),
        "path beyond ASCII": pseudo(app, path="/\u00ff"),
        "query beyond ASCII": pseudo(app, path="/?\u00ff"),
        "no method": pseudo(app, method=None),
        "method with a space": pseudo(app, method="GET /x HTTP/1.1"),
        "no authority": pseudo(app, authority=None),
        "empty authority": pseudo(app, authority=""),
        "authority with a user": pseudo(app, authority=f"user@{app.host}"),
        "authority with a path": pseudo(app, authority=f"{app.host}/x"),
        "authority with a space": pseudo(app, authority=f"{app.host} x"),
        "authority with a line break": pseudo(app, authority=f"{app.host}\r\nX: y"),
        "two authorities": [*plain, (":authority", app.host)],
        "two paths": [*plain, (":path", "/other")],
        "two methods": [*plain, (":method", "POST")],
        "pseudo-header after a header": [*plain, ("x-a", "b"), (":path", "/other")],
        "unknown pseudo-header": [*plain, (":client", "root")],
        "pseudo-header of an answer": [*plain, (":status", "200")],
        "connection header": [*plain, ("connection", "keep-alive")],
        "transfer coding": [*plain, ("transfer-encoding", "chunked")],
        "upper-case name": [*plain, ("X-Upper", "a")],
        "line break in a value": [*plain, ("x-a", "b\r\nx-c: d")],
        "NUL in a value": [*plain, ("x-a", "b\0")],
        "line break in a name": [*plain, ("x-a\r\nx-b", "c")],
        "empty name": [*plain, ("", "a")],
        "length that lies": [*plain, ("content-length", "100")],
    }


@pytest.mark.parametrize("what", h2_tricks(App("", "", "x.localhost", "")))
def test_h2_trick_reaches_no_origin(foregate: Foregate, origin: Origin, app: App, token: Token, what: str) -> None:
    before = origin.count
    lower = [(name.lower(), value) for name, value in token.headers]
    with foregate.connect_h2(app.host) as connection:
        try:
            status = connection.read(connection.open([*h2_tricks(app)[what], *lower]))
            assert status.status == 400
        except StreamReset:
            pass
    assert origin.received[before:] == []
    with foregate.connect_h2(app.host) as connection:
        assert connection.get(app.host, "/", lower).status == 200


def test_h2_host_header_beside_the_authority_is_not_listened_to(
    foregate: Foregate, origin: Origin, app: App, token: Token
) -> None:
    """RFC 9113 8.3.1: the authority alone says where a request goes, here and at the origin."""
    mark = unique("mark")
    lower = [(name.lower(), value) for name, value in token.headers]
    with foregate.connect_h2(app.host) as connection:
        stream = connection.open([*pseudo(app, path=f"/?{mark}"), ("host", "other.localhost"), *lower])
        status = connection.read(stream).status
    assert status in (200, 400)
    assert [request.header("host") for request in origin.marked(mark)] == ([app.host] if status == 200 else [])


def test_streams_of_one_connection_do_not_share_credentials(
    foregate: Foregate, origin: Origin, app: App, token: Token
) -> None:
    """Streams of one HTTP/2 connection are judged side by side; none may borrow another's token."""
    lower = [(name.lower(), value) for name, value in token.headers]
    wrong = [(name, value if name.endswith("id") else "wrong") for name, value in lower]
    other = create_app(foregate, origin.service, [allow(create_token(foregate.api()))])
    with foregate.connect_h2(app.host) as connection:
        kinds = [(app, lower, 200), (app, [], 403), (app, wrong, 401), (other, lower, 403)] * 20
        streams = [(connection.open([*pseudo(target), *given]), status) for target, given, status in kinds]
        assert [connection.read(stream).status for stream, _ in streams] == [status for _, status in streams]


def test_nothing_is_served_to_a_client_that_only_connects(foregate: Foregate, app: App, token: Token) -> None:
    held = [Connection(foregate.http_port) for _ in range(200)]
    try:
        assert foregate.get(app.host, "/", token.headers).status == 200
    finally:
        for connection in held:
            connection.close()

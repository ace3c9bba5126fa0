"""TLS, HTTP/2 and WebSocket at the real edge."""

from __future__ import annotations

import ssl

import pytest

from harness import websocket
from harness.http1 import Connection
from harness.origin import Origin
from harness.product import Foregate
from harness.things import App, Token, allow, create_app, create_token, until_status


@pytest.fixture(scope="module")
def token(foregate: Foregate) -> Token:
    return create_token(foregate.api())


@pytest.fixture(scope="module")
def app(foregate: Foregate, origin: Origin, token: Token) -> App:
    made = create_app(foregate, origin.service, [allow(token)])
    until_status(foregate, made.host, token, 200)
    return made


def lower(token: Token) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in token.headers]


def test_certificate_of_each_app_host_is_from_the_local_ca(foregate: Foregate, app: App, token: Token) -> None:
    with foregate.connect_tls(app.host) as connection:
        assert connection.request("GET", "/", [("Host", app.host), *token.headers]).status == 200
        assert connection.request("GET", "/", [("Host", app.host)]).status == 403


def test_certificate_for_another_host_is_not_given(foregate: Foregate, app: App) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError, OSError)):
        Connection(foregate.https_port, tls=foregate.tls(), server_name="another.example.com")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def test_modern_tls_is_spoken(foregate: Foregate, app: App, token: Token, version: ssl.TLSVersion) -> None:
    context = foregate.tls()
    context.minimum_version = context.maximum_version = version
    with Connection(foregate.https_port, tls=context, server_name=app.host) as connection:
        assert connection.request("GET", "/", [("Host", app.host), *token.headers]).status == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["TLS 1.0", "TLS 1.1"])
def test_old_tls_is_refused(foregate: Foregate, app: App, version: ssl.TLSVersion) -> None:
    context = foregate.tls()
    # The client's own OpenSSL must be willing, or the test would only show that it is not.
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Connection(foregate.https_port, tls=context, server_name=app.host)


def test_http2_is_offered_and_judged_alike(foregate: Foregate, origin: Origin, app: App, token: Token) -> None:
    with foregate.connect_h2(app.host) as connection:
        assert connection.get(app.host, "/", lower(token)).status == 200
        refusal = connection.get(app.host, "/")
        assert refusal.status == 403
        assert refusal.header("cf-access-aud") == app.aud
        assert connection.get(app.host.upper(), "/", lower(token)).status == 200
        assert connection.get(f"{app.host}:{foregate.https_port}", "/", lower(token)).status == 200


def test_http2_body_reaches_the_origin(foregate: Foregate, origin: Origin, app: App, token: Token) -> None:
    pseudo = [(":method", "POST"), (":scheme", "https"), (":authority", app.host), (":path", "/h2?over-h2")]
    with foregate.connect_h2(app.host) as connection:
        assert connection.read(connection.open([*pseudo, *lower(token)], b"body" * 1000)).status == 200
    (request,) = origin.marked("over-h2")
    assert request.body == b"body" * 1000
    assert request.header("host") == app.host


def test_host_of_another_application_on_one_tls_connection_is_judged_by_itself(
    foregate: Foregate, origin: Origin, app: App, token: Token
) -> None:
    """The name in the handshake says nothing about a request's host."""
    other = create_app(foregate, origin.service, [allow(create_token(foregate.api()))])
    with foregate.connect_tls(app.host) as connection:
        assert connection.request("GET", "/", [("Host", other.host), *token.headers]).status in (403, 421)
    with foregate.connect_h2(app.host) as connection:
        assert connection.get(other.host, "/", lower(token)).status in (403, 421)


def test_origin_is_told_which_scheme_was_used(foregate: Foregate, origin: Origin, app: App, token: Token) -> None:
    with foregate.connect_tls(app.host) as connection:
        assert connection.request("GET", "/?scheme-tls", [("Host", app.host), *token.headers]).status == 200
    assert foregate.get(app.host, "/?scheme-plain", token.headers).status == 200
    (over_tls,) = origin.marked("scheme-tls")
    (plain,) = origin.marked("scheme-plain")
    assert over_tls.header("x-forwarded-proto") == "https"
    assert plain.header("x-forwarded-proto") == "http"
    assert plain.header("x-forwarded-for") == "127.0.0.1"


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
def test_websocket_opens_with_a_token_and_carries_messages(
    foregate: Foregate, app: App, token: Token, is_tls: bool
) -> None:
    with foregate.connect_tls(app.host) if is_tls else foregate.connect() as connection:
        assert websocket.upgrade(connection, app.host, "/socket", token.headers) == 101
        assert websocket.say(connection, "first") == "first"
        assert websocket.say(connection, "second") == "second"


@pytest.mark.parametrize(
    ("credentials", "status"),
    [([], 403), ([("CF-Access-Client-Id", "0" * 32 + ".access"), ("CF-Access-Client-Secret", "s")], 401)],
    ids=["without a token", "with an unknown token"],
)
def test_websocket_is_refused_before_it_opens(
    foregate: Foregate, origin: Origin, app: App, credentials: list[tuple[str, str]], status: int
) -> None:
    before = origin.count
    with foregate.connect() as connection:
        assert websocket.upgrade(connection, app.host, "/socket", credentials) == status
    assert origin.count == before


def test_open_websocket_outlives_a_new_worker(foregate: Foregate, origin: Origin, app: App, token: Token) -> None:
    """A new application brings a new HAProxy worker; connections of the old one go on."""
    with foregate.connect() as connection:
        assert websocket.upgrade(connection, app.host, "/socket", token.headers) == 101
        create_app(foregate, origin.service, [allow(token)])
        assert websocket.say(connection, "still here") == "still here"


def test_new_application_costs_no_client_an_error(foregate: Foregate, origin: Origin, app: App, token: Token) -> None:
    """Requests on kept connections go on through a replacement of the worker, connection closing announced at most."""
    with foregate.connect() as connection:
        assert connection.request("GET", "/", [("Host", app.host), *token.headers]).status == 200
        create_app(foregate, origin.service, [allow(token)])
        assert connection.request("GET", "/", [("Host", app.host), *token.headers]).status == 200

"""Whose address counts: the connection's, or what a named trusted proxy says, and nobody else's word.

All of 127.0.0.0/8 is this machine, so that one test can come from a proxy's address, the next from a stranger's.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.http1 import Connection, encode
from harness.origin import Origin
from harness.product import Foregate, running_foregate
from harness.things import App, Token, allow, create_app, create_token, event_of, unique, until_status

TRUSTED, SPEAKS_PROXY, STRANGER = "127.0.0.10", "127.0.0.20", "127.0.0.1"
CLIENT = "198.51.100.7"


@pytest.fixture(scope="module")
def behind(origin: Origin) -> Iterator[Foregate]:
    """A Foregate that knows one proxy by X-Forwarded-For and one by the PROXY protocol."""
    with running_foregate(
        FOREGATE_TRUSTED_PROXIES=f"{TRUSTED}/32", FOREGATE_PROXY_PROTOCOL=f"{SPEAKS_PROXY}/32"
    ) as foregate:
        yield foregate


@pytest.fixture(scope="module")
def token(behind: Foregate) -> Token:
    return create_token(behind.api())


@pytest.fixture(scope="module")
def app(behind: Foregate, origin: Origin, token: Token) -> App:
    """It lets in everybody who comes from the client's network, and the token from anywhere."""
    nearby = {"name": "nearby", "decision": "bypass", "include": [{"ip": {"ip": "198.51.100.0/24"}}]}
    made = create_app(behind, origin.service, [nearby, allow(token)])
    until_status(behind, made.host, token, 200)
    return made


def status_from(behind: Foregate, app: App, source: str, *lines: tuple[str, str], preface: bytes = b"") -> int:
    with Connection(behind.http_port, source=source) as connection:
        return connection.exchange(preface + encode("GET", "/", [("Host", app.host), *lines])).status


def test_forwarded_address_of_a_trusted_proxy_counts(behind: Foregate, app: App) -> None:
    assert status_from(behind, app, TRUSTED) == 403
    assert status_from(behind, app, TRUSTED, ("X-Forwarded-For", CLIENT)) == 200


def test_forwarded_address_of_a_stranger_does_not_count(behind: Foregate, app: App) -> None:
    for name in ("X-Forwarded-For", "Cf-Connecting-Ip", "X-Real-Ip", "Forwarded", "True-Client-Ip"):
        assert status_from(behind, app, STRANGER, (name, CLIENT)) == 403


def test_address_that_a_client_slips_in_before_the_trusted_proxys_does_not_count(behind: Foregate, app: App) -> None:
    """The proxy adds to what its client sent; only what the proxy itself wrote, the last, may be believed."""
    assert status_from(behind, app, TRUSTED, ("X-Forwarded-For", f"{CLIENT}, 203.0.113.9")) == 403
    assert status_from(behind, app, TRUSTED, ("X-Forwarded-For", CLIENT), ("X-Forwarded-For", "203.0.113.9")) == 403
    assert status_from(behind, app, TRUSTED, ("X-Forwarded-For", f"203.0.113.9, {CLIENT}")) == 200


@pytest.mark.parametrize("value", ["", "nobody", "198.51.100.7.1", f"{CLIENT};x", "::ffff:zz"])
def test_forwarded_address_that_is_none_lets_nobody_in(behind: Foregate, app: App, value: str) -> None:
    assert status_from(behind, app, TRUSTED, ("X-Forwarded-For", value)) in (400, 403)


def test_proxy_protocol_of_a_named_proxy_counts(behind: Foregate, app: App) -> None:
    preface = f"PROXY TCP4 {CLIENT} 192.0.2.1 1234 80\r\n".encode()
    assert status_from(behind, app, SPEAKS_PROXY, preface=preface) == 200


def test_proxy_protocol_of_a_stranger_is_no_request(behind: Foregate, app: App) -> None:
    preface = f"PROXY TCP4 {CLIENT} 192.0.2.1 1234 80\r\n".encode()
    assert status_from(behind, app, STRANGER, preface=preface) == 400


def test_origin_and_event_are_told_the_address_that_was_judged(
    behind: Foregate, app: App, origin: Origin, token: Token
) -> None:
    mark = unique("mark")
    with Connection(behind.http_port, source=TRUSTED) as connection:
        headers = [("Host", app.host), ("X-Forwarded-For", f"203.0.113.9, {CLIENT}")]
        answer = connection.request("GET", f"/?{mark}", headers)
    assert answer.status == 200
    (request,) = origin.marked(mark)
    assert request.header("cf-connecting-ip") == CLIENT
    assert (request.header("x-forwarded-for") or "").endswith(CLIENT)
    assert event_of(behind.api(), answer)["ip"] == CLIENT

"""Requests through the real edge: who gets to the origin, with what, and what everybody else is told."""

from __future__ import annotations

import json
import re

import pytest

from harness.api import Api
from harness.http1 import Answer, encode
from harness.origin import Origin, Received
from harness.product import Foregate
from harness.things import App, Token, allow, create_app, create_token, unique, until_status

RAY = re.compile(r"[0-9a-f]{16}")


@pytest.fixture(scope="module")
def token(foregate: Foregate) -> Token:
    return create_token(foregate.api())


@pytest.fixture(scope="module")
def app(foregate: Foregate, origin: Origin, token: Token) -> App:
    made = create_app(foregate, origin.service, [allow(token)])
    until_status(foregate, made.host, token, 200)
    return made


def sent(foregate: Foregate, origin: Origin, app: App, target: str, headers: list[tuple[str, str]]) -> Received:
    """What reached the origin of a request that must get there. The target holds a mark of its own in its query."""
    mark = unique("mark")
    answer = foregate.get(app.host, f"{target}?{mark}", headers)
    assert answer.status == 200
    (request,) = origin.marked(mark)
    return request


def refused(answer: Answer, app: App, status: int) -> None:
    """What every refusal of a known application has."""
    assert answer.status == status
    assert answer.header("cf-access-aud") == app.aud
    assert answer.header("cf-access-domain") == app.host
    assert RAY.fullmatch(answer.header("cf-ray") or "")
    assert answer.header("cache-control") == "no-store"
    assert (answer.header("www-authenticate") or "").startswith("Cloudflare-Access") is (status == 401)


def test_valid_token_reaches_the_origin(foregate: Foregate, origin: Origin, app: App, token: Token) -> None:
    request = sent(foregate, origin, app, "/a/path", token.headers)
    assert request.target.startswith("/a/path?mark")


def test_ray_of_the_answer_is_the_one_the_origin_saw(
    foregate: Foregate, origin: Origin, app: App, token: Token
) -> None:
    mark = unique("mark")
    answer = foregate.get(app.host, f"/?{mark}", token.headers)
    (request,) = origin.marked(mark)
    assert RAY.fullmatch(answer.header("cf-ray") or "")
    assert request.header("cf-ray") == answer.header("cf-ray")


def test_each_request_has_a_ray_of_its_own(foregate: Foregate, app: App, token: Token) -> None:
    with foregate.connect() as connection:
        rays = {
            connection.request("GET", "/", [("Host", app.host), *token.headers]).header("cf-ray") for _ in range(20)
        }
    assert len(rays) == 20


def test_secret_never_reaches_the_origin(foregate: Foregate, origin: Origin, app: App, token: Token) -> None:
    request = sent(foregate, origin, app, "/", token.headers)
    assert token.secret not in repr(request)
    assert request.all("cf-access-client-id") == []
    assert request.all("cf-access-client-secret") == []


FORGED = [
    ("Cf-Access-Jwt-Assertion", "forged"),
    ("Cf-Access-Jwt-Assertion", "forged twice"),
    ("Cf-Access-Token", "forged"),
    ("Cf-Access-Authenticated-User-Email", "root@example.com"),
    ("cf-access-anything", "forged"),
    ("Cf-Ray", "forged"),
    ("Cf-Connecting-Ip", "192.0.2.1"),
    ("Cookie", "a=1; CF_Authorization=forged; b=2"),
]


def test_what_a_client_claims_about_itself_is_replaced(
    foregate: Foregate, origin: Origin, app: App, token: Token
) -> None:
    request = sent(foregate, origin, app, "/", [*token.headers, *FORGED])
    assert "forged" not in repr(request)
    assert "root@example.com" not in repr(request)
    assert request.header("cf-connecting-ip") == "127.0.0.1"
    assert request.header("cf-access-jwt-assertion")


@pytest.mark.parametrize("kept", ["", ", keep-alive", ", close"], ids=["alone", "keep-alive", "close"])
def test_client_cannot_have_the_assertion_taken_away_behind_the_edge(
    foregate: Foregate, origin: Origin, app: App, token: Token, kept: str
) -> None:
    """RFC 9110 7.6.1: a proxy before the origin removes what Connection names."""
    named = ("Connection", f"Cf-Access-Jwt-Assertion, X-Forwarded-For{kept}")
    request = sent(foregate, origin, app, "/", [*token.headers, named])
    assert request.all("connection") == []
    assert request.header("cf-access-jwt-assertion")


@pytest.mark.parametrize("protocol", ["h2c", "TLS/1.0", "other"])
def test_client_cannot_leave_http_but_for_a_websocket(
    foregate: Foregate, origin: Origin, app: App, token: Token, protocol: str
) -> None:
    """After a switch of protocols nobody would judge what follows on the connection."""
    headers = [*token.headers, ("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", protocol)]
    request = sent(foregate, origin, app, "/", headers)
    assert request.all("upgrade") == request.all("connection") == []


def test_cookies_of_the_application_stay(foregate: Foregate, origin: Origin, app: App, token: Token) -> None:
    request = sent(foregate, origin, app, "/", [*token.headers, ("Cookie", "a=1; CF_Authorization=forged; b=2")])
    cookies = [item.strip() for value in request.all("cookie") for item in value.split(";")]
    assert {"a=1", "b=2"} <= set(cookies)
    assert not [cookie for cookie in cookies if "forged" in cookie]


@pytest.mark.parametrize("kind", ["bypass", "unprotected"])
def test_forged_identity_is_removed_where_no_token_is_asked_for(
    foregate: Foregate, origin: Origin, api: Api, kind: str
) -> None:
    if kind == "bypass":
        policy = {"name": "all", "decision": "bypass", "include": [{"everyone": {}}]}
        host = create_app(foregate, origin.service, [policy]).host
    else:
        host = f"{unique('open')}.localhost"
        create_app(foregate, origin.service, [allow()], host=f"{host}/guarded")
        api.result("PATCH", "/access/organizations", {"deny_unmatched_requests_exempted_zone_names": [host]})
    until_status(foregate, host, None, 200)
    mark = unique("mark")
    assert foregate.get(host, f"/?{mark}", FORGED).status == 200
    (request,) = origin.marked(mark)
    assert "forged" not in repr(request) and "root@example.com" not in repr(request)
    assert request.all("cf-access-jwt-assertion") == []


def test_secret_of_a_token_is_removed_on_an_unprotected_host(foregate: Foregate, origin: Origin, token: Token) -> None:
    api = foregate.api()
    host = f"{unique('open')}.localhost"
    create_app(foregate, origin.service, [allow()], host=f"{host}/guarded")
    api.result("PATCH", "/access/organizations", {"deny_unmatched_requests_exempted_zone_names": [host]})
    until_status(foregate, host, None, 200)
    mark = unique("mark")
    assert foregate.get(host, f"/?{mark}", token.headers).status == 200
    (request,) = origin.marked(mark)
    assert token.secret not in repr(request)


REFUSALS = {
    "no credentials": ([], 403),
    "unknown token": ([("CF-Access-Client-Id", "0" * 32 + ".access"), ("CF-Access-Client-Secret", "s")], 401),
    "malformed id": ([("CF-Access-Client-Id", "me"), ("CF-Access-Client-Secret", "s")], 401),
    "id alone": ([("CF-Access-Client-Id", "0" * 32 + ".access")], 401),
    "secret alone": ([("CF-Access-Client-Secret", "s")], 401),
    "empty secret": ([("CF-Access-Client-Id", "0" * 32 + ".access"), ("CF-Access-Client-Secret", "")], 401),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_refusal_is_html_or_json_by_accept(foregate: Foregate, app: App, what: str) -> None:
    headers, status = REFUSALS[what]
    page = foregate.get(app.host, headers=headers)
    refused(page, app, status)
    assert (page.header("content-type") or "").startswith("text/html")
    answer = foregate.get(app.host, headers=[*headers, ("Accept", "application/json")])
    refused(answer, app, status)
    body = answer.json()
    assert (body["status_code"], body["aud"], body["ray_id"]) == (status, app.aud, answer.header("cf-ray"))
    assert body["message"]


def test_unknown_id_and_wrong_secret_are_told_the_same(foregate: Foregate, app: App, token: Token) -> None:
    def told(client_id: str, secret: str) -> tuple[object, ...]:
        headers = [("CF-Access-Client-Id", client_id), ("CF-Access-Client-Secret", secret)]
        answer = foregate.get(app.host, headers=[*headers, ("Accept", "application/json")])
        body = answer.json()
        body.pop("ray_id")
        names = [name for name, _ in answer.headers]
        return answer.status, body, names

    assert told("f" * 32 + ".access", token.secret) == told(token.client_id, create_token(foregate.api()).secret)


def test_token_of_another_policy_is_403(foregate: Foregate, app: App) -> None:
    stranger = create_token(foregate.api())
    until_status(foregate, app.host, stranger, 403)
    refused(foregate.get(app.host, headers=stranger.headers), app, 403)


def test_401_where_the_application_asks_for_it(foregate: Foregate, origin: Origin) -> None:
    made = create_app(foregate, origin.service, [allow()], service_auth_401_redirect=True)
    refused(foregate.get(made.host), made, 401)


def test_deny_policy_refuses_by_address(foregate: Foregate, origin: Origin, token: Token) -> None:
    deny = {"name": "deny", "decision": "deny", "include": [{"everyone": {}}]}
    elsewhere = {"require": [{"ip": {"ip": "192.0.2.0/24"}}]}
    made = create_app(foregate, origin.service, [allow(token, **elsewhere), deny])
    until_status(foregate, made.host, token, 403)


def test_host_without_an_application_is_refused(foregate: Foregate, token: Token) -> None:
    answer = foregate.get(f"{unique('nobody')}.localhost", headers=token.headers)
    assert answer.status == 403
    assert RAY.fullmatch(answer.header("cf-ray") or "")


def test_one_header_carries_both(foregate: Foregate, origin: Origin, token: Token) -> None:
    made = create_app(foregate, origin.service, [allow(token)], read_service_tokens_from_header="Authorization")
    value = json.dumps({"cf-access-client-id": token.client_id, "cf-access-client-secret": token.secret})
    mark = unique("mark")
    assert foregate.get(made.host, f"/?{mark}", [("Authorization", value)]).status == 200
    (request,) = origin.marked(mark)
    assert request.all("authorization") == []
    assert token.secret not in repr(request)


def test_one_header_with_something_else_stays_the_applications_own(
    foregate: Foregate, origin: Origin, token: Token
) -> None:
    made = create_app(foregate, origin.service, [allow(token)], read_service_tokens_from_header="Authorization")
    until_status(foregate, made.host, token, 200)
    mark = unique("mark")
    assert foregate.get(made.host, f"/?{mark}", [*token.headers, ("Authorization", "Bearer of mine")]).status == 200
    (request,) = origin.marked(mark)
    assert request.header("authorization") == "Bearer of mine"


HOST_FORMS = ["{host}", "{HOST}", "{host}.", "{host}:{port}", "{HOST}.:{port}"]


@pytest.mark.parametrize("form", HOST_FORMS)
def test_host_is_judged_the_same_however_written(
    foregate: Foregate, origin: Origin, app: App, token: Token, form: str
) -> None:
    host = form.format(host=app.host, HOST=app.host.upper(), port=foregate.http_port)
    mark = unique("mark")
    assert foregate.get(host, f"/?{mark}", token.headers).status == 200
    assert len(origin.marked(mark)) == 1
    assert foregate.get(host).status == 403


def test_absolute_form_is_judged_by_its_own_host(foregate: Foregate, origin: Origin, app: App, token: Token) -> None:
    mark = unique("mark")
    with foregate.connect() as connection:
        headers = [("Host", app.host), *token.headers]
        assert connection.request("GET", f"http://{app.host}/x?{mark}", headers).status == 200
    (request,) = origin.marked(mark)
    assert request.target.endswith(f"/x?{mark}")
    with foregate.connect() as connection:
        assert connection.request("GET", f"http://{app.host}/x", [("Host", app.host)]).status == 403


def test_absolute_form_with_another_host_header_reaches_nothing_unjudged(
    foregate: Foregate, origin: Origin, app: App
) -> None:
    """A bypass application must not lend its openness to another host."""
    everyone = {"name": "all", "decision": "bypass", "include": [{"everyone": {}}]}
    opened = create_app(foregate, origin.service, [everyone])
    until_status(foregate, opened.host, None, 200)
    for target, header in ((opened.host, app.host), (app.host, opened.host)):
        mark = unique("mark")
        with foregate.connect() as connection:
            connection.request("GET", f"http://{target}/?{mark}", [("Host", header)])
        for request in origin.marked(mark):
            assert request.header("host") == opened.host, "only what is open to all may be reached without a token"


PATHS = {
    "/a/./b": "/a/b",
    "/a/../b": "/b",
    "/a/b/..": "/a/",
    "/../../b": "/b",
    "//a///b": "/a/b",
    "/%61/%7Eb": "/a/~b",
    "/a%2fb": None,
    "/a%2Fb": None,
    "/a%5cb": None,
    "/a%00b": None,
    "/a\\b": None,
    "/%zz": None,
    "/%": None,
    "/%e2%82%ac": "/%E2%82%AC",
    "/a%20b": "/a%20b",
    "/.%2e/a": "/a",
    "/%2e%2e/a": "/a",
    "/a;b=c": "/a;b=c",
}


@pytest.mark.parametrize("path", PATHS)
def test_origin_gets_exactly_the_path_that_was_judged(
    foregate: Foregate, origin: Origin, app: App, token: Token, path: str
) -> None:
    expected = PATHS[path]
    mark = unique("mark")
    status = foregate.get(app.host, f"{path}?{mark}", token.headers).status
    assert status == (400 if expected is None else 200)
    targets = [request.target for request in origin.marked(mark)]
    assert targets == ([] if expected is None else [f"{expected}?{mark}"])


def test_query_passes_unchanged(foregate: Foregate, origin: Origin, app: App, token: Token) -> None:
    query = f"{unique('mark')}=%2F..%2f&a=%00&b=//&c=%zz&&d=%C3%a9+%61"
    assert foregate.get(app.host, f"/q?{query}", token.headers).status == 200
    (request,) = origin.marked(query.partition("=")[0])
    assert request.target == f"/q?{query}"


def test_path_rule_covers_what_lies_below_and_nothing_beside(foregate: Foregate, origin: Origin, token: Token) -> None:
    host = f"{unique('paths')}.localhost"
    everyone = {"name": "all", "decision": "bypass", "include": [{"everyone": {}}]}
    create_app(foregate, origin.service, [everyone], host=host)
    made = foregate.api().result(
        "POST",
        "/access/apps",
        {"type": "self_hosted", "name": "admin", "domain": f"{host}/admin", "policies": [allow(token)]},
    )
    assert made["id"]
    until_status(foregate, host, None, 403, "/admin")
    guarded = ("/admin", "/admin/", "/admin/x", "/x/../admin", "//admin", "/%61dmin", "/admin?x", "/./admin/.")
    for path in guarded:
        assert foregate.get(host, path).status == 403, path
        assert foregate.get(host, path, token.headers).status == 200, path
    for path in ("/administrator", "/ADMIN", "/", "/admi", "/admin/..", "/x/admin"):
        assert foregate.get(host, path).status == 200, path


def test_body_reaches_the_origin_whole(foregate: Foregate, origin: Origin, app: App, token: Token) -> None:
    body = bytes(range(256)) * 400
    mark = unique("mark")
    with foregate.connect() as connection:
        assert connection.request("POST", f"/?{mark}", [("Host", app.host), *token.headers], body).status == 200
    (request,) = origin.marked(mark)
    assert (request.method, request.body) == ("POST", body)


def test_answer_comes_back_whole(foregate: Foregate, app: App, token: Token) -> None:
    answer = foregate.get(app.host, "/bytes/3000000", token.headers)
    assert answer.body == b"x" * 3_000_000


@pytest.mark.parametrize("status", [204, 301, 404, 418, 500, 503])
def test_status_of_the_origin_is_passed_on(foregate: Foregate, app: App, token: Token, status: int) -> None:
    answer = foregate.get(app.host, "/", [*token.headers, ("X-Origin-Status", str(status))])
    assert answer.status == status
    assert RAY.fullmatch(answer.header("cf-ray") or "")


def test_every_request_of_a_connection_is_judged_anew(
    foregate: Foregate, origin: Origin, app: App, token: Token
) -> None:
    """Verified credentials are remembered for a connection; they must not stand for another's, or for none."""
    other = create_app(foregate, origin.service, [allow(create_token(foregate.api()))])
    with foregate.connect() as connection:
        asked = [
            connection.request("GET", "/", [("Host", app.host), *token.headers]).status,
            connection.request("GET", "/", [("Host", app.host), *token.headers]).status,
            connection.request("GET", "/", [("Host", app.host)]).status,
            connection.request("GET", "/", [("Host", app.host), *token.with_secret("wrong").headers]).status,
            connection.request("GET", "/", [("Host", other.host), *token.headers]).status,
            connection.request("GET", "/", [("Host", app.host), *token.headers]).status,
        ]
    assert asked == [200, 200, 403, 401, 403, 200]


def test_pipelined_requests_are_each_judged(foregate: Foregate, app: App, token: Token) -> None:
    good = encode("GET", "/", [("Host", app.host), *token.headers])
    bad = encode("GET", "/", [("Host", app.host)])
    with foregate.connect() as connection:
        connection.send(good + bad + good)
        assert [connection.read_answer().status for _ in range(3)] == [200, 403, 200]
